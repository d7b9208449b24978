"""A model small enough to train in a second, and rows to train it on; random, made on the spot, the same every time."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
SPECIAL_TOKENS = {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
WORDS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen",
)  # fmt: skip
"""What 0 to 14 are called."""


def sums() -> list[dict[str, str]]:
    """64 sums in words, of unequal length: a prompt and its completion."""
    return [
        {
            "prompt": f"What is {WORDS[a]} plus {WORDS[b]}?" + " Think well." * (a % 3),
            "completion": WORDS[a + b],
        }
        for a in range(8)
        for b in range(8)
    ]


def rows_with(columns: Collection[str]) -> list[dict[str, Any]]:
    """The sums with what an objective asks for: each of ``columns`` is one column, or ``"a|b"`` for either."""
    found: list[dict[str, Any]] = []
    for number, row in enumerate(sums()):
        wrong = WORDS[(number * 7 + 3) % len(WORDS)]
        offered: Mapping[str, Any] = {
            "completion": row["completion"],
            "prompt": row["prompt"],
            "chosen": row["completion"],
            "rejected": wrong if wrong != row["completion"] else "nothing",
            "label": number % 2,
            "text": f"{row['prompt']} {row['completion']}",
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ],
        }
        wanted = [next((name for name in offered if name in needed.split("|")), None) for needed in sorted(columns)]
        found.append({name: offered[name] for name in ["prompt", "completion", *wanted] if name is not None})
    return found


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """One JSON object a line."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def write_model(folder: Path) -> Path:
    """A random Llama (hidden 64, 2 blocks, 4 heads, 2 of them for keys) and a tokenizer that speaks ChatML."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

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
        eos_token_id=tokenizer.eos_token_id,  # pyright: ignore[reportArgumentType]
        pad_token_id=tokenizer.pad_token_id,  # pyright: ignore[reportArgumentType]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on the rows; knows every byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe: Any = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=384, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([" ".join(row.values()) for row in sums()] + ["system user assistant"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **SPECIAL_TOKENS)
    tokenizer.chat_template = CHATML
    return tokenizer
