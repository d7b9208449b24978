"""Log-probabilities of the supervised tokens of a batch, without the full logits ever existing.

The whole model runs with one position of logits, its body's output is overheard, and the output layer is applied to
the supervised positions only: a slice of the vocabulary at a time (``core.output_layer``), or a chunk of the positions
where it is no plain product. What a model does to its logits afterwards (Granite's scaling, Gemma's soft cap) is found
by comparing with its own logits once, at the first batch.

Shapes: B examples, N supervised tokens, C tokens of a chunk, T tokens, H hidden width, V vocabulary.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from transformers import PreTrainedModel

from core import attention, output_layer
from core.batch import LaidOut, lay_out
from core.contracts import Batch, LogProbs
from core.ending import Ending, candidates
from core.logit_chunks import EXTRA, in_chunks, of_logits, product
from core.neftune import noisy

OUTPUT_LAYER = "output layer"
"""What a profile calls the output layer and the loss made of it."""

log = logging.getLogger("hooktune")


@dataclass(frozen=True)
class TokenLogProbs(LogProbs):
    """What ``token_logprobs`` returns.

    Attributes:
        logprobs_N: Log-probability of each supervised token, float32, nats.
        loss_weights_N: Its weight.
        batch: The batch they are of.
        uniform_N: Mean log-probability over the vocabulary, or None.
        logsumexp_N: Logarithm of the normaliser, or None.
        entropy_N: Of the distribution that predicts the token, nats, without gradient, or None.
    """

    logprobs_N: Tensor
    loss_weights_N: Tensor
    batch: LaidOut = field(repr=False)
    uniform_N: Tensor | None = None
    logsumexp_N: Tensor | None = None
    entropy_N: Tensor | None = None

    def sum(self, name: str, weights_N: Tensor | None = None) -> Tensor:
        """(B,) weighted sum over the sequence ``name`` of each example."""
        weights_N = self.loss_weights_N if weights_N is None else weights_N
        return self._per_sequence(self.logprobs_N * weights_N, name)

    def weight(self, name: str, weights_N: Tensor | None = None) -> Tensor:
        """(B,) sum of the weights over the sequence ``name`` of each example."""
        return self._per_sequence(self.loss_weights_N if weights_N is None else weights_N, name)

    def mean(self, name: str, weights_N: Tensor | None = None) -> Tensor:
        """(B,) the same divided by the sequence's weight."""
        return self.sum(name, weights_N) / self.weight(name, weights_N)

    def _per_sequence(self, values_N: Tensor, name: str) -> Tensor:
        sums_S = values_N.new_zeros(len(self.batch.names) * self.batch.size)
        sums_S = sums_S.index_add(0, self.batch.owners_N, values_N)
        return sums_S.view(len(self.batch.names), self.batch.size)[self.batch.names.index(name)]


def token_logprobs(
    model: nn.Module, batch: Batch, also: Collection[str] = (), *, neftune_alpha: float = 0.0
) -> TokenLogProbs:
    """Log-probability of each supervised token of ``batch``.

    Args:
        model: The model as the method left it, wrapped or not.
        batch: As the core laid it out.
        also: What else of each token's distribution is wanted: ``uniform``, ``logsumexp``, ``entropy``.
        neftune_alpha: Noise on the embeddings in train mode; see ``core.neftune``.

    Returns:
        Supervised tokens only, float32, in nats, with gradient where autograd is on.
    """
    batch = cast(LaidOut, batch)
    if neftune_alpha and batch.layout == "shared":  # its noise depends on the length of each sequence
        batch = lay_out(batch.examples, "apart").to(batch.sources_N.device)
    inner = output_model(model)
    ending = _endings.get(inner)
    if ending is None:
        ending = _endings[inner] = _find_ending(model, inner, batch)
    wanted = tuple(name for name in EXTRA if name in also)
    with noisy(inner, batch, neftune_alpha):
        if ending.plain:
            found = of_logits(_own_logits(model, inner, batch, batch.sources_N).float(), batch.targets_N, wanted)
        else:
            hidden_NH = _hidden(model, inner, batch)[batch.sources_N]
            head = cast(nn.Module, inner.get_output_embeddings())
            with record_function(OUTPUT_LAYER):
                found = _of_hidden(hidden_NH, batch.targets_N, head, ending, wanted)
    more = {f"{name}_N": value for name, value in zip(wanted, found[1:], strict=True)}
    return TokenLogProbs(found[0], batch.loss_weights_N, batch, **more)


def assume(inner: PreTrainedModel, ending: Ending) -> None:
    """Take an ending for granted: one without weights cannot be compared with its own logits, another was before."""
    _endings[inner] = ending


def ending_of(model: nn.Module) -> Ending | None:
    """What was found for a model; None before its first batch."""
    return _endings.get(output_model(model))


def output_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside whatever a method wrapped around it."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise TypeError(f"{type(model).__name__} holds no transformers model")


# ------------------------------------------------------------------------------------------------------------- hidden
def _forward(model: nn.Module, batch: LaidOut, **more: Any) -> Any:
    with attention.apart() if batch.layout in ("apart", "shared") else nullcontext():
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


_endings: WeakKeyDictionary[nn.Module, Ending] = WeakKeyDictionary()


def _find_ending(model: nn.Module, inner: PreTrainedModel, batch: LaidOut) -> Ending:
    """Compare with the model's own logits at up to 64 supervised positions of the batch."""
    head = inner.get_output_embeddings()
    keep = batch.sources_N[:64]
    if not isinstance(head, nn.Module) or inner.base_model is inner:
        return Ending(plain=True)

    # the comparison must not move the run's dropout
    with torch.no_grad(), torch.random.fork_rng(), _overheard(inner) as heard:
        own_NV = _own_logits(model, inner, batch, keep)
        product_NV = product(head, _flatten(heard[-1], batch)[keep])
    targets_N = batch.targets_N[:64]
    own_N = _pick(own_NV.float(), targets_N)
    gaps = {e: (_pick(e(product_NV), targets_N) - own_N).abs().max().item() for e in candidates(inner.config)}
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
    return of_logits(logits_CV, targets_C, ())[0]


def _of_hidden(
    hidden_NH: Tensor, targets_N: Tensor, head: nn.Module, ending: Ending, wanted: Sequence[str]
) -> tuple[Tensor, ...]:
    """(N,) log-probabilities, then one (N,) for each name in ``wanted``, without the full logits."""
    if "uniform" in wanted or not output_layer.fits(head):
        return in_chunks(hidden_NH, targets_N, head, ending, wanted)
    logprobs_N, logsumexp_N, entropy_N = output_layer.token_distribution(
        hidden_NH, targets_N, head, ending, "entropy" in wanted
    )
    return logprobs_N, *({"logsumexp": logsumexp_N, "entropy": entropy_N}[name] for name in wanted)
