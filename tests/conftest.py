"""What many tests need: a model small enough to train in a second, rows to train it on, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# nothing is ever fetched: without these a wrong path is asked of the hub first, with retries
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", UNSLOTH_AUTO_INSTALL="0")

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]


def rows() -> list[dict[str, str]]:
    """64 sums in words, of unequal length."""
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    words += ["twelve", "thirteen", "fourteen"]
    return [
        {"prompt": f"What is {words[a]} plus {words[b]}?" + " Think well." * (a % 3), "completion": words[a + b]}
        for a in range(8)
        for b in range(8)
    ]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never read or fill the user's cache, unless HOOKTUNE_CACHE says where."""
    os.environ.setdefault("HOOKTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def rows_jsonl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 64 rows with ``prompt`` and ``completion``."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama (hidden 64, 2 blocks, 4 heads, 2 of them for keys) and a ChatML tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _tokenizer():
    """Byte-level BPE, trained on the rows; knows every byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([" ".join(row.values()) for row in rows()] + ["system user assistant"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|pad|>")
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``cli("--help")`` is ``python -m core --help`` in an empty folder, with its output as text."""

    def run(*arguments: str, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "core", *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """``build(folder)`` is the wheel of the project in ``folder``; nothing is fetched for it."""

    def run(project: Path) -> Path:
        target = tmp_path_factory.mktemp("wheel")
        options = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(target)]
        subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(project)], check=True, timeout=300)
        (wheel,) = target.glob("*.whl")
        return wheel

    return run


@pytest.fixture(scope="session")
def wheel(build: Callable[[Path], Path]) -> Path:
    """hooktune's wheel, as users get it."""
    return build(REPOSITORY)


@pytest.fixture(scope="session")
def environment(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Callable[..., subprocess.CompletedProcess[str]]]:
    """``environment(*wheels)`` is a fresh virtual environment: a function that runs its python or a script of its own.

    It borrows what is installed here through a path file. Files of that kind are not followed a second time, so an
    editable install of this checkout stays out of sight.
    """

    def make(*wheels: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
        folder = tmp_path_factory.mktemp("venv")
        venv.create(folder, with_pip=False)
        scripts = Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)}))
        own = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(scripts / "python"),
            "install",
            "--no-deps",
            "--no-index",
            "-q",
        ]
        subprocess.run([*pip, *map(str, wheels)], check=True, timeout=300)
        (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")

        def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
            script = scripts / arguments[0]
            command = [script, *arguments[1:]] if script.exists() else [scripts / "python", *arguments]
            variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"COLUMNS": "120"}
            return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)

        return run

    return make
