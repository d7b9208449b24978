"""Every function of the contracts, driven through a whole run by a stranger's tiny parts (tests/data/tinyparts)."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path

import pytest

import core
from core.errors import UserError

PARTS = Path(__file__).parent.parent / "data" / "tinyparts"


@pytest.fixture
def tiny(monkeypatch, tmp_path, tiny_model, rows_jsonl):
    """``tiny("method=halves")`` trains a tiny model with a stranger's parts and returns the result."""
    monkeypatch.syspath_prepend(str(PARTS))
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str):
        usual = [
            f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl", f"data.train={rows_jsonl}",
            "data.batch_size=4", "trainer.max_steps=4", "trainer.accelerator=cpu", "optim.lr=1e-2", "metric=none",
        ]  # fmt: skip
        given = {line.partition("=")[0]: line for line in [*usual, *overrides]}  # the last one counts
        return core.train(core.configure(list(given.values())))

    yield run
    for name in [name for name in sys.modules if name.startswith("tinyparts")]:
        del sys.modules[name]


def seen(module: str):
    return importlib.import_module(f"tinyparts.{module}").SEEN


def losses(result) -> list[float]:
    return [line["loss"] for line in result.metrics if line["split"] == "train"]


def test_a_method_shaped_like_an_optimizer(tiny):
    result = tiny("method=halves")
    assert seen("methods")["rates"] == [1e-3, 1e-2]
    assert seen("methods")["batches"] == [4, 4]
    assert seen("methods")["facts"] == [64, 2, 4, False]
    assert losses(result)[-1] < losses(result)[0]
    assert (result.folder / "model" / "model.safetensors").exists()


def test_callbacks_act_after_the_division_and_the_penalty_is_added_once(tiny):
    result = tiny("method=turns", "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=null")
    lines = [line for line in result.metrics if line["split"] == "train"]
    # two norms of 64 ones in each of two blocks: 0.1 * 4 * 64 * (1 - 2)^2
    assert lines[0]["penalty"] == pytest.approx(25.6)
    assert lines[-1]["penalty"] < 25.6
    # gradients of sums over 8 rows would be some 20 times the mean's; the penalty's own is 0.2
    assert max(seen("methods")["means"]) < 2.0


def test_an_adapter_written_by_hand_saves_loads_and_switches(tiny):
    result = tiny("method=gain")
    assert [file.name for file in (result.folder / "adapter").glob("gain*")] == ["gain.safetensors"]
    again = core.load_run(result.folder)
    tuned = again.generate("What is one plus two?", max_new_tokens=6)
    assert tuned == result.generate("What is one plus two?", max_new_tokens=6)
    with again.plan.method.using(again.model, ()):
        assert again.model.model.norm.acting is False


def test_training_goes_on_from_a_saved_adapter(tiny):
    first = tiny("method=gain")
    second = tiny("method=gain", f"model.path={first.folder}")
    assert losses(second)[0] < losses(first)[0]
    with pytest.raises(UserError, match="holds an adapter of method gain"):
        tiny("method=lora", f"model.path={first.folder}")


def test_a_method_can_ask_for_padded_rows(tiny, capsys):
    tiny("method=rowwise")
    assert "layout padded" in capsys.readouterr().out


def test_a_quantizer_prepares_before_and_converts_after_saving(tiny):
    result = tiny("quant=rounded", "method=full")
    assert seen("quantizers") == ["load training=True", "prepare", "convert"]
    assert type(result.model).__name__ == "Converted", "what convert returns is the model of the run"
    from safetensors.torch import load_file

    saved = load_file(result.folder / "model" / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert not bool(((saved * 64) == (saved * 64).round()).all())
    core.load_run(result.folder).model  # noqa: B018  # loading is what is looked at
    assert seen("quantizers")[3:] == ["load training=False", "prepare"]


def test_a_loader_that_drops_the_quantizer_is_found_out(tiny):
    with pytest.raises(UserError, match="left every layer dense although quant=forgotten"):
        tiny("quant=forgotten", "method=full")


def test_an_objective_with_a_reference_starts_at_log_two(tiny):
    result = tiny("objective=closer", "method=lora", "method.dropout=0.3")
    assert losses(result)[0] == pytest.approx(math.log(2), abs=0.02)
    assert losses(result)[-1] < losses(result)[0]
    assert all(0 <= line["odd"] <= 1 for line in result.metrics if line["split"] == "train")
    assert seen("objectives")[0].startswith("prepare ")
    assert any(line.startswith("head of ") for line in seen("objectives"))


def test_a_reference_is_known_where_losses_are_measured(tiny):
    result = tiny("objective=closer", "method=lora", "metric=loss")
    assert result.before.n == result.after.n == 3
    assert result.before.value == pytest.approx(math.log(2), abs=1e-4)
    assert result.after.value < result.before.value


def test_the_reference_of_a_saved_adapter_is_what_training_starts_from(tiny):
    """In bfloat16 the adapter's products are rounded in training: the reference is rounded in the same way."""
    first = tiny("method=lora", "model.dtype=bfloat16", "optim.lr=0.1", "run.dir=first")
    again = tiny("method=lora", "model.dtype=bfloat16", f"model.path={first.folder}", "objective=closer", "run.dir=on")
    assert losses(again)[0] == pytest.approx(math.log(2), abs=1e-6)


def test_a_method_that_looks_at_batches_sees_the_reference(tiny):
    tiny("objective=closer", "method=halves")
    assert seen("methods")["numbers"] == [["label", "reference"]]


def test_an_objective_can_refuse_a_batch_that_is_too_small(tiny):
    with pytest.raises(UserError, match=r"data.batch_size=1 is too small"):
        tiny("objective=closer", "data.batch_size=1")


# ------------------------------------------------------------------------------------------- a stranger's other kinds
SUMS = ["data.tolerance=1", "data=sums", "data.on_bad_row=skip", "data.columns.prompt=q", "data.columns.completion=a"]


@pytest.fixture
def strange(tiny, monkeypatch, tmp_path, tiny_model):
    """``strange(...)`` trains with not one part of ours but the method and the quantizer."""

    def run(*overrides: str):
        usual = [
            f"model.path={tiny_model}", "model.dtype=float32", "loader=shelf", "optim=plain", "optim.momentum=0.9",
            *SUMS, "data.batch_size=4", "trainer.max_steps=8", "trainer.accelerator=cpu", "optim.lr=0.05",
            "method=lora",
        ]  # fmt: skip
        given = {line.partition("=")[0]: line for line in [*usual, *overrides]}
        return core.train(core.configure(list(given.values())))

    return run


def test_a_loader_a_source_an_optimizer_and_a_metric_of_a_stranger(strange, capsys):
    result = strange()
    assert seen("loaders") == ["AutoModelForCausalLM", "wrap default"]
    assert losses(result)[-1] < losses(result)[0]
    # what the source suggests was measured, on the rows that could be read, before and after
    assert (result.before.name, result.before.n) == ("longest", 6)
    assert [result.before.value, result.after.value] == seen("metrics")
    assert result.after.value < result.before.value
    said = capsys.readouterr().out
    assert "skipped: 1 row held out" in said
    assert "label is not read: every answer is learned" in said
    assert "columns that nothing reads" not in said  # q and a are mapped
    assert {part["name"] for part in result.lock["parts"]} >= {"shelf", "plain", "sums", "longest"}


def test_an_optimizers_options_reach_it(strange, monkeypatch):
    still = strange("optim.lr=0", "metric=none")
    assert losses(still)[0] == pytest.approx(losses(strange("metric=none"))[0])
    assert still.metrics[-1]["lr"] == 0
    monkeypatch.undo()


def test_a_source_that_cannot_read_a_row_names_it(strange):
    with pytest.raises(UserError, match="validation row 7: q: is illegible"):
        strange("data.on_bad_row=stop")


def test_an_objective_with_a_head_of_its_own(strange):
    result = strange("objective=parity", "metric=longest", "trainer.max_steps=120", "optim.lr=0.03")
    assert seen("loaders")[0] == "AutoModelForSequenceClassification"
    assert losses(result)[0] == pytest.approx(math.log(2), abs=0.3)
    assert sum(losses(result)[-8:]) < 0.9 * sum(losses(result)[:8])
    assert result.lock["head"] == {"auto_class": "AutoModelForSequenceClassification", "config": {"num_labels": 2}}
    again = core.load_run(result.folder)
    import torch

    rows = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert torch.equal(again.model(rows).logits, result.model.eval()(rows).logits)
    ends = [ends for ends in seen("objectives") if isinstance(ends, list)]
    question = again.tokenizer("?")["input_ids"][-1]
    assert ends
    assert all(end == question for some in ends for end in some)


@pytest.fixture
def vault(strange, monkeypatch, tiny_model):
    """The same with a loader that knows models by names of its own."""
    monkeypatch.setenv("VAULT", str(tiny_model.parent))

    def run(*overrides: str):
        return strange("loader=vault", f"model.path=vault://{tiny_model.name}", "metric=none", *overrides)

    return run


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_from_an_address_of_the_loaders_own_is_used_and_gone_on_from(vault, method, capsys):
    from core.generate import generate

    result = vault(f"method={method}", "optim.lr=0.01")
    generate(result.folder, "What is one plus two?", {"max_new_tokens": 3})
    said = capsys.readouterr().out
    assert "base: " in said
    assert f"tuned: {result.generate('What is one plus two?', max_new_tokens=3)}" in said
    again = vault(f"method={method}", "optim.lr=0.01", f"model.path={result.folder}")
    assert losses(again)[0] < losses(result)[0]
    if method == "lora":
        assert result.lock["model"]["given"] == again.lock["model"]["given"] == "vault://tiny"
        with pytest.raises(UserError, match="vault://tiny") as caught:
            vault("method=lora", "loader=transformers", f"model.path={result.folder}")
        assert caught.value.fix == f"loader=vault, which {result.folder} was trained with"


def test_a_run_on_a_local_folder_is_used_from_another(tiny, tmp_path, tiny_model, monkeypatch):
    (tmp_path / "beside").symlink_to(tiny_model)
    result = tiny("method=lora", "model.path=beside", "trainer.max_steps=1")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert core.load_run(result.folder).generate("What?", max_new_tokens=2) is not None
    assert result.lock["model"]["given"] == str(tmp_path / "beside")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_that_does_not_know_what_was_typed_is_used_and_gone_on_from(tiny, method, capsys):
    from core.generate import generate

    result = tiny(f"method={method}", "trainer.max_steps=1")
    lock = json.loads((result.folder / "lock.json").read_text())
    del lock["model"]["given"]  # as runs were written at first
    (result.folder / "lock.json").write_text(json.dumps(lock))
    generate(result.folder, "What is one plus two?", {"max_new_tokens": 3})
    assert "base: " in capsys.readouterr().out
    again = tiny(f"method={method}", "trainer.max_steps=1", f"model.path={result.folder}")
    assert again.plan.start.given == (str(result.folder / "model") if method == "full" else lock["model"]["path"])


def test_a_classifier_writes_no_text(strange):
    from core.generate import generate

    result = strange("objective=parity", "metric=none", "trainer.max_steps=1")
    with pytest.raises(UserError, match="which writes no text"):
        generate(result.folder, "What?")
