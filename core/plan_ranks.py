"""``plan method.rank=?``: what each rank costs, and which to take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from core.errors import UserError
from core.plan_screen import gigabytes

if TYPE_CHECKING:
    from core.planned import Planned

KEY = "method.rank"
RANKS = (4, 8, 16, 32, 64, 128, 256)
GUIDANCE = """
Which to take
  4 to 16      answers in a new form or of a known kind: on GPT-3, ranks of 4 and 8 were as good as 64
               (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 7.2, table 6)
  8 to 64      instructions: where all linear layers have an adapter the rank hardly mattered
               (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 4 and appendix A)
  64 and more  much that is new, such as code or mathematics in billions of tokens: there higher ranks learned more,
               and full training most (Biderman et al. 2024, https://arxiv.org/abs/2405.09673)
Double it only when the loss on held-out rows says so; alpha goes with it (twice the rank is usual)."""


def asked(overrides: Sequence[str]) -> bool:
    """Whether a rank is asked for; the question mark is taken before anything is composed.

    Raises:
        UserError: it stands for something else.
    """
    marked = [line for line in overrides if line.endswith("=?")]
    for line in marked:
        if line != f"{KEY}=?":
            raise UserError(f"{line}: there is no table of that", f"{KEY}=?")
    return bool(marked)


def table(planned: Callable[[Sequence[str]], Planned], overrides: Sequence[str]) -> Iterator[str]:
    """A line for each rank, then guidance.

    Args:
        planned: Plans a run.
        overrides: What was typed.
    """
    rest = [line for line in overrides if line != f"{KEY}=?"]
    yield f"{'rank':>4}  {'parameters':>12}  {'share':>7}  {'memory':>9}  {'file':>9}"
    for rank in RANKS:
        found = planned([*rest, f"{KEY}={rank}"])
        number = found.trained["parameters"]
        yield (
            f"{rank:>4}  {number:>12,}  {found.trained['share']:>7.2%}  {gigabytes(found.memory['total']):>9}  "
            f"{found.trained['file'] / 1e6:>6,.1f} MB"
        )
    yield GUIDANCE
