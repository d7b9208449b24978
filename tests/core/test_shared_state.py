"""What the kit notices of what a part left behind, and what it takes for a library's own doing."""

from __future__ import annotations

import functools
import os

import peft
import pytest
import torch
import torch.nn.modules.module as hooks
from transformers import AttentionInterface
from transformers.models.auto import modeling_auto

from core.testing.shared_state import differing, look

NAMES = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
LINEAR = torch.nn.functional.linear


def deterministic(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.backends.cudnn, "deterministic", True)


LEFT = {
    "torch.nn.functional.linear": lambda p: p.setattr("torch.nn.functional.linear", functools.partial(LINEAR)),
    "torch.nn.functional.gelu": lambda p: p.setattr("torch.nn.functional.gelu", torch.nn.functional.relu),
    "torch.nn.Bilinear": lambda p: p.delattr("torch.nn.Bilinear"),
    "torch.nn.modules.linear.Linear.forward": lambda p: p.delattr(torch.nn.Linear, "forward"),
    "torch.nn.modules.linear.Linear.extra": lambda p: p.setattr(torch.nn.Linear, "extra", property(len), raising=False),
    "peft.tuners.lora.config.LoraConfig.__call__": lambda p: p.setattr(
        peft.LoraConfig, "__call__", lambda self: 1, raising=False
    ),
    "peft.acme": lambda p: p.setattr(peft, "acme", functools.partial(print), raising=False),
    "torch.nn.functional.softmax": lambda p: p.setattr(
        "torch.nn.functional.softmax", torch.no_grad()(torch.nn.functional.softmax)
    ),
    "torch.nn.functional.silu": lambda p: p.setattr(
        "torch.nn.functional.silu", torch.compile(torch.nn.functional.silu)
    ),
    "['sdpa']": lambda p: p.setitem(AttentionInterface._global_mapping, "sdpa", lambda *given: None),
    "_global_forward_hooks[7]": lambda p: p.setitem(hooks._global_forward_hooks, 7, lambda *given: None),
    "['acme']": lambda p: p.setitem(NAMES, "acme", "AcmeForCausalLM"),
    "['llama']": lambda p: p.delitem(NAMES, "llama"),
    "torch.backends.cudnn.deterministic": deterministic,
    "os.environ[ACME]": lambda p: p.setitem(os.environ, "ACME", "1"),
}
"""End of what is named -> how it comes about."""


@pytest.mark.parametrize("name", LEFT)
def test_it_is_named(name, monkeypatch):
    before = look()
    LEFT[name](monkeypatch)
    assert [found.endswith(name) for found in differing(before, look())] == [True]
    monkeypatch.undo()
    assert differing(before, look()) == []


def test_a_wrapper_that_every_run_makes_is_nobodys(monkeypatch):
    before = look()
    LEFT["torch.nn.functional.softmax"](monkeypatch)
    assert differing(before, look(), ["torch.nn.functional.softmax"]) == []


@pytest.mark.parametrize(
    ("name", "change", "back"),
    [
        ("torch.get_num_threads", lambda: torch.set_num_threads(7), torch.set_num_threads),
        ("torch.get_default_dtype", lambda: torch.set_default_dtype(torch.float64), torch.set_default_dtype),
        (
            "torch.get_deterministic_debug_mode",
            lambda: torch.use_deterministic_algorithms(True, warn_only=True),
            torch.set_deterministic_debug_mode,
        ),
    ],
)
def test_a_setting_is_named(name, change, back):
    before = look()
    change()
    after = look()
    back(before.values[name])
    assert name in differing(before, after)
    assert differing(before, look()) == []


def test_what_a_library_makes_for_itself_is_its_own(monkeypatch):
    """A wrapper around its own function, a class of its own in a registry, a module that is imported late."""
    before = look()
    first = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)  # wraps its step when the first one is made
    monkeypatch.setattr(torch.optim.Optimizer, "late", torch.optim.Optimizer.profile_hook_step, raising=False)
    monkeypatch.setitem(peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING, "late", peft.LoraConfig)
    assert first
    assert differing(before, look()) == []
