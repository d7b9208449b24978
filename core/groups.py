"""What is drawn when batches are made: single examples, rows of ``max_length`` filled with several, mixed sets."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Sequence


def groups(
    lengths: Sequence[int], shares: Sequence[float] | None, packing: bool, max_length: int, seed: int
) -> list[list[int]] | range:
    """Indices of the examples of each group; a range stands for groups of one.

    Args:
        lengths: Tokens of each example.
        shares: How often each is taken in an epoch; None: once.
        packing: Whether a group is filled.
        max_length: Tokens of a full group.
        seed: Decides which examples of a share below 1 are taken.

    Example:
        >>> groups([3, 2, 4, 1], None, True, 5, 0)
        [[2, 3], [0, 1]]
        >>> groups([3, 2, 4], None, False, 5, 0)
        range(0, 3)
    """
    taken = range(len(lengths)) if shares is None else _taken(shares, seed)
    if packing:
        return best_fit(lengths, taken, max_length)
    return taken if isinstance(taken, range) else [[index] for index in taken]


def members(drawn: Sequence[Sequence[int]] | range, chosen: Sequence[int]) -> list[int]:
    """Indices of the examples of some groups."""
    return list(chosen) if isinstance(drawn, range) else [index for group in chosen for index in drawn[group]]


def _taken(shares: Sequence[float], seed: int) -> list[int]:
    """Each example as often as its share says; of a fraction, so many of the examples that have it."""
    chance = random.Random(seed)  # noqa: S311  # nothing secret
    found: list[int] = []
    for share in sorted(set(shares)):
        those = [index for index, other in enumerate(shares) if other == share]
        whole = int(share)
        found += those * whole + chance.sample(those, taken(share, len(those)) - whole * len(those))
    return sorted(found)


def taken(share: float, number: int) -> int:
    """How many of so many examples are taken in an epoch.

    Example:
        >>> taken(1.5, 3), taken(0.01, 30)
        (5, 0)
    """
    return int(share) * number + round((share - int(share)) * number)


def epoch(shares: Sequence[float]) -> int:
    """How many examples are taken in an epoch, of all."""
    return sum(taken(share, shares.count(share)) for share in set(shares))


def best_fit(lengths: Sequence[int], indices: Sequence[int], room: int) -> list[list[int]]:
    """Fill bins: the longest first, each into the fullest bin that still takes it (best-fit decreasing).

    A bin's total is at most ``room`` tokens unless a single example is longer; their number is within 11/9 of the
    fewest possible (Johnson 1973).
    """
    found: list[list[int]] = []
    free: list[int] = []  # sorted: what each open bin still takes
    open_bins: dict[int, list[int]] = {}  # free tokens -> bins
    for index in sorted(indices, key=lambda i: (-int(lengths[i]), i)):
        length = int(lengths[index])
        at = bisect_left(free, length)
        if at < len(free):
            left = free[at]
            bins = open_bins[left]
            chosen = bins.pop()
            if not bins:
                del open_bins[left], free[at]
        else:
            found.append([])
            left, chosen = room, len(found) - 1
        found[chosen].append(index)
        left = max(0, left - length)
        if left not in open_bins:
            open_bins[left] = []
            insort(free, left)
        open_bins[left].append(chosen)
    return found
