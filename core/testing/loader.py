"""What a loader must do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import nn

from core.contracts import Head
from core.errors import UserError
from core.planning import planned
from core.testing.real import OnRealWeights
from core.testing.rig import IDS_BT, Rig, logits_BTV, logits_of_run, losses_of, train
from core.weightless import build


class LoaderContract(OnRealWeights):
    """Checks of a loader on a folder with a tiny model.

    One that takes addresses of its own has one in ``overrides``, such as ``["model.path=vault://tiny"]``.
    """

    axis = "loader"

    def test_describing_reads_no_weights(self) -> None:
        """Facts come from the config: the plan is made before anything large is read or fetched."""
        self._needs_our_folder()
        before = Rig(self.usual()).plan.facts
        (self.folder / "model" / "model.safetensors").rename(self.folder / "weights")
        plan = Rig(self.usual()).plan
        assert plan.facts == before

    def test_facts_are_those_of_the_loaded_model(self) -> None:
        """Numbers and names."""
        rig = Rig(self.usual())
        facts, model = rig.plan.facts, rig.base()
        assert facts.parameters == sum(p.numel() for p in model.parameters())
        assert facts.vocabulary == logits_BTV(model).shape[-1]
        assert facts.hidden == cast("Any", model).get_input_embeddings().weight.shape[1]
        assert [model.get_submodule(block) for block in facts.blocks]
        assert facts.linears
        for name, (inputs, outputs) in facts.linears.items():
            layer = model.get_submodule(name)
            assert (layer.in_features, layer.out_features) == (inputs, outputs)
        if not self.model_is_given:
            assert (facts.architecture, facts.hidden, facts.context) == ("LlamaForCausalLM", 64, 512)
            assert (len(facts.blocks), len(facts.linears)) == (2, 14)

    def test_its_model_can_be_planned(self) -> None:
        """At ``facts.path`` transformers finds a config, from which the same model is built without weights."""
        rig = Rig(self.usual())
        shape = build(rig.plan, rig.data.head)
        assert sum(p.numel() for p in shape.parameters()) == rig.plan.facts.parameters
        assert planned(rig.plan, rig.data).memory["total"] > 0

    def test_the_tokenizer_is_the_models(self) -> None:
        """With its template and its end token."""
        tokenizer = Rig(self.usual()).plan.tokenizer
        assert tokenizer.chat_template
        assert tokenizer.eos_token_id is not None

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_weights_are_held_as_asked(self, dtype: str) -> None:
        """In ``model.dtype``, all of them."""
        model = Rig(self.usual(f"model.dtype={dtype}")).base()
        assert {p.dtype for p in model.parameters() if p.is_floating_point()} == {getattr(torch, dtype)}

    def test_it_answers_as_transformers_does(self) -> None:
        """The same weights, the same logits."""
        from transformers import AutoModelForCausalLM

        rig = Rig(self.usual())
        found = logits_BTV(rig.base())
        folder = rig.plan.facts.path if self.model_is_given else self.folder / "model"
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            wanted = plain(input_ids=IDS_BT).logits
        assert (found - wanted).abs().max() < 1e-4

    @pytest.mark.parametrize("path", ["nothing/here/at/all", "./nowhere"])
    def test_a_model_that_is_not_there_is_said(self, path: str) -> None:
        """In two lines."""
        with pytest.raises(UserError):
            Rig(self.usual(f"model.path={path}"))

    def test_weights_that_are_missing_are_said(self) -> None:
        """Not made up."""
        self._needs_our_folder()
        rig = Rig(self.usual())
        (self.folder / "model" / "model.safetensors").unlink()
        with pytest.raises(UserError):
            rig.base()

    def test_an_option_is_honoured_or_refused(self) -> None:
        """A quantizer that was asked for and dropped would train something else without a word."""
        for name in self.registry.names("quant"):
            try:
                plan = Rig(self.usual(f"quant={name}", "method=lora")).plan
                # not through the core, which would find it out by itself
                model = plan.loader.load(plan.start.model, Head(), plan.quantizer.load_options(training=True))
            except UserError:
                continue
            if plan.quantizer.load_options(training=True):
                assert any(plan.quantizer.quantized(layer) for layer in model.modules()), name

    def test_an_adapter_goes_in_its_own_way(self) -> None:
        """``wrap_peft`` leaves the named adapter acting and trained."""
        from peft import LoraConfig

        rig = Rig(self.usual("method=lora"))
        model = rig.base()
        config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        wrapped = rig.plan.loader.wrap_peft(model, config, "default")
        assert isinstance(wrapped, nn.Module)
        trained = [name for name, p in wrapped.named_parameters() if p.requires_grad]
        assert trained
        assert all("lora_" in name for name in trained)

    def test_a_head_is_honoured_or_refused(self) -> None:
        """A classifier is one, or an error says why not."""
        rig = Rig(self.usual())
        source = replace(rig.plan.start.model)
        head = Head("AutoModelForSequenceClassification", {"num_labels": 3})
        try:
            model = rig.plan.loader.load(source, head, {})
        except UserError:
            return
        assert type(model).__name__.endswith("ForSequenceClassification")
        config: Any = model.config
        assert config.num_labels == 3

    def test_it_trains(self) -> None:
        """Twenty steps on one batch bring the loss down by a twentieth at least."""
        few = ["trainer.max_steps=20", "trainer.overfit_batches=1", "optim.schedule=constant", "optim.warmup=0"]
        losses = losses_of(train(self.usual("method=lora", "optim.lr=1e-2", *few)))
        assert losses[-1] < 0.95 * losses[0]

    @pytest.mark.parametrize("method", ["lora", "full"])
    def test_what_it_trained_is_loaded_and_gone_on_from(self, method: str) -> None:
        """An adapter on what the user typed, and a whole model, which is a folder that ``save_pretrained`` wrote."""
        usual = partial(self.usual, f"method={method}", "optim.lr=1e-2")
        first = train(usual("run.dir=first"))
        tuned = logits_BTV(first.model)
        assert (logits_of_run(first.folder) - tuned).abs().max() < 1e-4
        again = Rig(usual(f"model.path={first.folder}"))
        assert (logits_BTV(again.applied()[0]) - tuned).abs().max() < 1e-4

    def _needs_our_folder(self) -> None:
        if self.model_is_given:
            pytest.skip("only a folder of the kit's own can have its weights taken away")
