"""A profile as a table: where the time of a step goes, by group and by operator."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.autograd import DeviceType

from core.logprobs import OUTPUT_LAYER
from core.profiled import GRADIENTS_ARE_THERE, Profiled

OPTIMIZER, ATTENTION = "optimizer and clipping", "attention"

KINDS = {
    "matrix products": r"::_?(addmm|mm|bmm|baddbmm|addbmm|mkldnn_linear|int_mm|scaled_mm)\b|gemm|gemv",
    "dequantization": r"dequant",
    "copies, casts, views": r"::_?(to|to_copy|copy|clone|contiguous|cat|fill|zeros?|empty\w*|index\w*|gather|embedding"
    r"|(unsafe_)?view|reshape|transpose|t|as_strided|select|slice|narrow|split\w*|unsqueeze|expand|detach)_?(_backward)?$",
}
"""Group -> names of its operators where no other group has them."""

REST = "elementwise, norms, rest"
BETWEEN = "outside of operators"
"""Python, Lightning, logging, the next batch; on a GPU the time in which it did nothing."""


def table(found: Profiled, most: int | None = None) -> Iterator[str]:
    """Lines: what was measured, then groups and operators, the most time first.

    Args:
        found: After its last step.
        most: Operators that are listed; None lists all.
    """
    events: list[Any] = list(found.profiler.events() or ())
    device = any(event.device_type == DeviceType.CUDA for event in events)
    groups: dict[str, float] = defaultdict(float)
    operators: dict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    for event, group in _grouped(events):
        taken = (event.self_device_time_total if device else event.self_cpu_time_total) / 1e6
        groups[group] += taken
        operators[event.name] += taken
        calls[event.name] += 1
    groups[BETWEEN] = max(0.0, found.seconds - sum(groups.values()))
    where = torch.cuda.get_device_name() if device else f"CPU, threads: {torch.get_num_threads()}"
    yield f"{found.steps} steps, each {found.seconds / found.steps:.3f} s and {found.tokens / found.steps:,.0f} tokens"
    yield f"{found.tokens / found.seconds:,.0f} tokens/s with the profiler on; {where}; torch {torch.__version__}"
    yield from ("", *_block("group", groups, {}, found, None))
    yield from ("", *_block("operator, its own time", operators, calls, found, most))


def _block(
    title: str, taken: Mapping[str, float], calls: Mapping[str, int], found: Profiled, most: int | None
) -> Iterator[str]:
    yield (
        f"{'ms a step':>10}  {'share':>6}  {'calls':>7}  {title}"
        if calls
        else f"{'ms a step':>10}  {'share':>6}  {title}"
    )
    for name, seconds in sorted(taken.items(), key=lambda item: -item[1])[:most]:
        row = f"{1e3 * seconds / found.steps:10.2f}  {seconds / found.seconds:6.1%}  "
        yield row + (f"{calls[name] / found.steps:7.0f}  {name}" if calls else name)
    if most is not None and len(taken) > most:
        yield f"{'':10}  {'':6}  {'':7}  ... and {len(taken) - most} more"


# ------------------------------------------------------------------------------------------------------------- groups
def _grouped(events: list[Any]) -> Iterator[tuple[Any, str]]:
    """Operators, each with its group; ranges that only name a part of a step are left out."""
    ranges = [event for event in events if event.name == OUTPUT_LAYER and event.device_type == DeviceType.CPU]
    # a step back has the number of the operator that it is the derivative of
    output = {event.sequence_nr for each in ranges for event in _below(each) if event.sequence_nr >= 0}
    for event in events:
        if event.cpu_parent is None and event.device_type == DeviceType.CPU:
            yield from _walk(event, "", output)


def _walk(event: Any, whole: str, output: set[int]) -> Iterator[tuple[Any, str]]:
    """An operator and those it called, which belong to its group where that is more than a kind of operator."""
    whole = whole or _whole(event, output)
    if not event.is_user_annotation:
        yield event, whole or next((kind for kind, names in KINDS.items() if re.search(names, event.name)), REST)
    for child in event.cpu_children:
        if child.name == GRADIENTS_ARE_THERE:
            whole = OPTIMIZER  # what follows in the optimizer's own step
        yield from _walk(child, whole, output)


def _whole(event: Any, output: set[int]) -> str:
    backward = event.name.startswith("autograd::engine::evaluate_function")
    if event.name == OUTPUT_LAYER or (backward and event.sequence_nr in output):
        return OUTPUT_LAYER
    return ATTENTION if re.search(r"scaled_?dot_?product|attention", event.name, re.IGNORECASE) else ""


def _below(event: Any) -> Iterator[Any]:
    for child in event.cpu_children:
        yield child
        yield from _below(child)
