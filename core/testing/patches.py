"""What a plugin changed in what all runs of a process share: by being found, and by a run with one of its parts."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

from core.discovery import discover
from core.testing.shared_state import differing, look


def changed_by(
    overrides: Sequence[str], usual: Sequence[str], plugins: Collection[str], environment: Mapping[str, str]
) -> list[str]:
    """Names of what differs afterwards: of libraries, of torch's settings, of the environment.

    Args:
        overrides: Of the run.
        usual: Of a run before, without the part that is looked at: what it changes is not the part's doing.
        plugins: Those of the part's distribution; everything else is found before them.
        environment: What it was before any plugin was found: here it may hold already what one of them sets.
    """
    from core.testing.rig import train

    here = dict(os.environ)
    _put(environment)
    discover(plugins)
    before = look()
    discover()
    found = differing(before, look())
    _put(here)
    at_first = look()
    train(usual)
    before = look()
    train(overrides)
    return sorted({*found, *differing(before, look(), differing(at_first, before))})


def _put(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
