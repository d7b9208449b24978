"""Which layout a model can take: the quickest that gives the same log-probabilities as its rows one by one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from core import attention
from core.batch import Layout, lay_out
from core.contracts import Example, Head, Method, Tokens
from core.logprobs import token_logprobs

log = logging.getLogger("hooktune")

SHARED = 0.95
"""Share of the tokens that are left, below which beginnings are shared."""


def choose(model: nn.Module, method: Method, head: Head, examples: Sequence[Example], pad: int) -> Layout:
    """Try the layouts on the longest and the shortest example and take the first that is right.

    Args:
        model: As the method left it; its attention is exchanged where that helps.
        method: One that needs padded rows gets them.
        head: Anything but a language model gets padded rows: it pools each of them in a way of its own.
        examples: The training examples.
        pad: Token id that fills padded rows.

    Returns:
        ``shared`` where the sequences of an example begin alike, else ``apart``, else ``masked``, else ``padded``, with
        a warning that says why.
    """
    if must_be_padded(method, head):
        return "padded"
    few = longest_and_shortest(examples)
    was_training = model.training
    model.eval()
    try:
        return _first_right(model, few, pad, quickest(examples))
    finally:
        model.train(was_training)


def must_be_padded(method: Method, head: Head) -> bool:
    """Whether nothing else is tried."""
    return method.layout == "padded" or head.auto_class != Head().auto_class


def quickest(examples: Sequence[Example]) -> Layout:
    """``shared`` where that leaves out a twentieth of the tokens or more, of a sample; else ``apart``."""
    some = [examples[i] for i in range(0, len(examples), max(1, len(examples) // 100))]
    number = sum(isinstance(value, Tokens) for value in examples[0].values())
    if number < 2:
        return "apart"
    batch = lay_out(some, "shared")
    return "shared" if batch.inputs["input_ids"].shape[1] < SHARED * batch.tokens else "apart"


def longest_and_shortest(examples: Sequence[Example]) -> list[Example]:
    """The longest, the shortest and the middle one, of a sample where there are many."""
    step = max(1, len(examples) // 2000)
    ordered = sorted((examples[i] for i in range(0, len(examples), step)), key=_length)
    return [ordered[-1], ordered[0], ordered[len(ordered) // 2]]


def _first_right(model: nn.Module, few: list[Example], pad: int, best: Layout) -> Layout:
    device = next(model.parameters()).device

    def logprobs_N(examples: list[Example], layout: Layout) -> Tensor:
        with torch.no_grad():
            return token_logprobs(model, lay_out(examples, layout, pad).to(device)).logprobs_N

    one_by_one = torch.cat([logprobs_N([example], "padded") for example in few])
    # half precision moves a token by hundredths, int8's outliers of a whole batch by tenths, as padded rows show;
    # sequences that see each other move it by nats
    allowed = 2e-3
    if not _exact(model):
        noise = (_by_example(logprobs_N(few, "padded"), few) - one_by_one).abs().mean().item()
        allowed = max(0.3, 3 * noise)
    gap = float("nan")
    ours: tuple[Layout, ...] = ("shared", "apart") if best == "shared" else ("apart",)
    for layout in (*ours, "masked") if attention.install(model) else ("masked",):
        gap = (_by_example(logprobs_N(few, layout), few) - one_by_one).abs().mean().item()
        if gap < allowed:
            gap = _leak(few, layout, logprobs_N)
            # what a quantizer or experts that look at the whole batch move, padded rows show
            if gap < 1e-6 or gap < 4 * _leak(few, "padded", logprobs_N):
                return layout
        if layout != "shared":
            attention.remove(model)
    log.warning(
        "%s mixes up sequences that lie in one row (%.2g nats a token): rows are padded, slower",
        type(model).__name__,
        gap,
    )
    return "padded"


def _leak(few: list[Example], layout: Layout, logprobs_N: Callable[[list[Example], Layout], Tensor]) -> float:
    """How far the beginning of a sequence moves when the one before it changes, nats.

    A convolution or a recurrent state carries over so little that it drowns in half precision's noise, but of two
    batches of one shape nothing else may differ.
    """
    before, after = ([*_sequence(example).ids][:32] for example in (few[0], few[-1]))
    changed = [token - 1 if token else 1 for token in before]
    one, other = (
        logprobs_N([{"text": Tokens(ids, [1.0] * len(ids))} for ids in (first, after)], layout)[len(first) - 1 :]
        for first in (before, changed)
    )
    return (one - other).abs().max().item()


def _sequence(example: Example) -> Tokens:
    return next(value for value in example.values() if isinstance(value, Tokens))


def _by_example(logprobs_N: Tensor, few: list[Example]) -> Tensor:
    """A batch lists the first name of all examples, then the second; one by one lists all names of an example."""
    counts = [[sum(w != 0 for w in v.loss_weights[1:]) for v in e.values() if isinstance(v, Tokens)] for e in few]
    pieces = logprobs_N.split([counts[i][name] for name in range(len(counts[0])) for i in range(len(few))])
    return torch.cat([pieces[name * len(few) + i] for i in range(len(few)) for name in range(len(counts[0]))])


def _exact(model: nn.Module) -> bool:
    device = next(model.parameters()).device.type
    return not torch.is_autocast_enabled(device) and all(p.dtype == torch.float32 for p in model.parameters())


def _length(example: Example) -> int:
    return sum(len(value.ids) for value in example.values() if isinstance(value, Tokens))
