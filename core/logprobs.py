"""Log-probabilities of the supervised tokens of a batch, without the full logits ever existing.

The whole model runs with one position of logits, its body's output is overheard, and the output layer is applied to
the supervised positions only, in chunks. What a model does to its logits afterwards (Granite's scaling, Gemma's soft
cap) is found by comparing with its own logits once, at the first batch.

Shapes: B examples, N supervised tokens, C tokens of a chunk, T tokens, H hidden width, V vocabulary.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from core import attention
from core.batch import LaidOut
from core.contracts import Batch, LogProbs

CHUNK = 512
"""Supervised tokens whose logits exist at one time: 100 MB in float32 for a vocabulary of 49,152."""

log = logging.getLogger("hooktune")


@dataclass(frozen=True)
class TokenLogProbs(LogProbs):
    """What ``token_logprobs`` returns.

    Attributes:
        logprobs_N: Log-probability of each supervised token, float32, nats.
        loss_weights_N: Its weight.
        batch: The batch they are of.
    """

    logprobs_N: Tensor
    loss_weights_N: Tensor
    batch: LaidOut = field(repr=False)

    def sum(self, name: str) -> Tensor:
        """(B,) weighted sum over the sequence ``name`` of each example."""
        return self._per_sequence(self.logprobs_N * self.loss_weights_N, name)

    def mean(self, name: str) -> Tensor:
        """(B,) the same divided by the sequence's weight."""
        return self.sum(name) / self._per_sequence(self.loss_weights_N, name)

    def _per_sequence(self, values_N: Tensor, name: str) -> Tensor:
        sums_S = values_N.new_zeros(len(self.batch.names) * self.batch.size)
        sums_S = sums_S.index_add(0, self.batch.owners_N, values_N)
        return sums_S.view(len(self.batch.names), self.batch.size)[self.batch.names.index(name)]


def token_logprobs(model: nn.Module, batch: Batch) -> TokenLogProbs:
    """Log-probability of each supervised token of ``batch``.

    Args:
        model: The model as the method left it, wrapped or not.
        batch: As the core laid it out.

    Returns:
        Supervised tokens only, float32, in nats, with gradient where autograd is on.
    """
    batch = cast(LaidOut, batch)
    inner = output_model(model)
    ending = _endings.get(inner)
    if ending is None:
        ending = _endings[inner] = _find_ending(model, inner, batch)
    if ending.plain:
        logprobs_N = _plain(model, batch)
    else:
        hidden_NH = _hidden(model, inner, batch)[batch.sources_N]
        logprobs_N = _in_chunks(hidden_NH, batch.targets_N, cast(nn.Module, inner.get_output_embeddings()), ending)
    return TokenLogProbs(logprobs_N, batch.loss_weights_N, batch)


def output_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside whatever a method wrapped around it."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise TypeError(f"{type(model).__name__} holds no transformers model")


# ------------------------------------------------------------------------------------------------------------- hidden
def _forward(model: nn.Module, batch: LaidOut, **more: Any) -> Any:
    with attention.apart() if batch.layout == "apart" else nullcontext():
        return model(**batch.inputs, **more)


def _hidden(model: nn.Module, inner: PreTrainedModel, batch: LaidOut) -> Tensor:
    """(T, H) output of the model's body, overheard while the whole model runs."""
    # an index, not the number 1: torch copies the output layer's whole weight to multiply a slice
    keep = {"logits_to_keep": batch.sources_N.new_zeros(1)} if _keeps(inner) else {}
    with _overheard(inner) as heard:
        _forward(model, batch, **keep)
    return _flatten(heard[-1], batch)


@contextmanager
def _overheard(inner: PreTrainedModel) -> Generator[list[Tensor]]:
    """What the body puts out while inside: (rows, tokens, H) each time it runs."""
    heard: list[Tensor] = []

    def hear(_module: nn.Module, _args: Any, output: Any) -> None:
        heard.append(output[0] if isinstance(output, tuple) else output.last_hidden_state)

    handle = inner.base_model.register_forward_hook(hear)
    try:
        yield heard
    finally:
        handle.remove()


def _flatten(states: Tensor, batch: LaidOut) -> Tensor:
    # prompt tuning puts virtual tokens before each row
    states = states[:, -batch.inputs["input_ids"].shape[1] :]
    return states.reshape(-1, states.shape[-1])


def _keeps(inner: PreTrainedModel) -> bool:
    """Whether the model can be told at which positions to make logits."""
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


# ------------------------------------------------------------------------------------------------------------ ending
@dataclass(frozen=True)
class Ending:
    """What a model does to the output layer's product before it is logits.

    Attributes:
        scale: Factor.
        cap: ``cap * tanh(logits / cap)`` when not None.
        plain: Nothing of the kind reproduces the model: let it make the logits itself.
    """

    scale: float = 1.0
    cap: float | None = None
    plain: bool = False

    def __call__(self, product_CV: Tensor) -> Tensor:
        """Float32 logits."""
        logits_CV = product_CV.float()
        if self.scale != 1.0:
            logits_CV = logits_CV * self.scale
        return logits_CV if self.cap is None else self.cap * torch.tanh(logits_CV / self.cap)


_endings: WeakKeyDictionary[nn.Module, Ending] = WeakKeyDictionary()


def _candidates(config: Any) -> list[Ending]:
    """As it is, or with the scaling and the soft cap that architectures name in their config."""
    config = config.get_text_config()
    scales = [1.0]
    if getattr(config, "logits_scaling", None):  # Granite divides
        scales.append(1 / config.logits_scaling)
    if getattr(config, "logit_scale", None):  # Cohere multiplies
        scales.append(config.logit_scale)
    caps = [None, getattr(config, "final_logit_softcapping", None)]  # Gemma
    return [Ending(scale, cap) for scale in scales for cap in dict.fromkeys(caps)]


def _find_ending(model: nn.Module, inner: PreTrainedModel, batch: LaidOut) -> Ending:
    """Compare with the model's own logits at up to 64 supervised positions of the batch."""
    head = inner.get_output_embeddings()
    keep = batch.sources_N[:64]
    if not isinstance(head, nn.Module) or inner.base_model is inner:
        return Ending(plain=True)

    # the comparison must not move the run's dropout
    with torch.no_grad(), torch.random.fork_rng(), _overheard(inner) as heard:
        own_NV = _own_logits(model, inner, batch, keep)
        product_NV = head(_flatten(heard[-1], batch)[keep])
    targets_N = batch.targets_N[:64]
    own_N = _pick(own_NV.float(), targets_N)
    gaps = {e: (_pick(e(product_NV), targets_N) - own_N).abs().max().item() for e in _candidates(inner.config)}
    best = min(gaps, key=lambda ending: gaps[ending])
    if gaps[best] < (1e-3 if own_NV.dtype == torch.float32 else 5e-2):
        return best
    log.warning(
        "%s changes its logits in a way of its own (%.2g nats apart): they are taken from the model itself, slower",
        type(inner).__name__,
        gaps[best],
    )
    return Ending(plain=True)


def _own_logits(model: nn.Module, inner: PreTrainedModel, batch: LaidOut, at_N: Tensor) -> Tensor:
    """(N, V) logits that the model makes itself at flattened positions."""
    if batch.layout != "padded" and _keeps(inner):
        return _forward(model, batch, logits_to_keep=at_N).logits[0]
    return _flatten(_forward(model, batch).logits, batch)[at_N]


# ------------------------------------------------------------------------------------------------------------ logprobs
def _pick(logits_CV: Tensor, targets_C: Tensor) -> Tensor:
    return logits_CV.gather(1, targets_C[:, None])[:, 0] - logits_CV.logsumexp(1)


def _in_chunks(hidden_NH: Tensor, targets_N: Tensor, head: nn.Module, ending: Callable[[Tensor], Tensor]) -> Tensor:
    def chunk(hidden_CH: Tensor, targets_C: Tensor) -> Tensor:
        return _pick(ending(head(hidden_CH)), targets_C)

    if len(targets_N) <= CHUNK:
        return chunk(hidden_NH, targets_N)
    pairs = zip(hidden_NH.split(CHUNK), targets_N.split(CHUNK), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([chunk(hidden_CH, targets_C) for hidden_CH, targets_C in pairs])
    # logits of a chunk are made again on the way back, so that one chunk's exist at a time
    return torch.cat([cast(Tensor, checkpoint(chunk, *pair, use_reentrant=False)) for pair in pairs])


def _plain(model: nn.Module, batch: LaidOut) -> Tensor:
    own_NV = _own_logits(model, output_model(model), batch, batch.sources_N)
    return _pick(own_NV.float(), batch.targets_N)
