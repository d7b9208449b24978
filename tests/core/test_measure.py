"""Measuring leaves the model as it was, and does not copy the output layer's weight."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from core.measure import measure


@pytest.fixture
def model(tiny_model):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model).train()


class Asks:
    """A metric that generates for two prompts at a time and notes what it was given."""

    def measure(self, model, rows, context):
        assert not model.training
        assert not torch.is_grad_enabled()
        model.generate(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]]), max_new_tokens=2, do_sample=False)
        return len(rows)


def plan(metric) -> SimpleNamespace:
    return SimpleNamespace(metric=metric, config=SimpleNamespace(options={"metric": SimpleNamespace(rows=2)}))


def test_the_output_layer_gets_its_input_in_one_piece(model):
    """``generate`` hands it a slice of the prompt's states, which torch multiplies prompt by prompt."""
    pieces: list[bool] = []
    model.lm_head.register_forward_hook(lambda _layer, inputs, _output: pieces.append(inputs[0].is_contiguous()))
    measure(plan(Asks()), model, [{}, {}], None, Console(quiet=True))
    assert pieces == [True, True]
    assert not model.lm_head._forward_pre_hooks


def test_modes_come_back_and_rows_are_limited(model):
    model.model.layers[0].eval()
    assert measure(plan(Asks()), model, [{}, {}, {}], None, Console(quiet=True)) == 2
    assert model.training
    assert not model.model.layers[0].training


def test_nothing_is_measured_without_a_metric_or_a_row(model):
    assert measure(plan(None), model, [{}], None, Console(quiet=True)) is None
    assert measure(plan(Asks()), model, [], None, Console(quiet=True)) is None
