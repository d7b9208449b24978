"""How often a model ranks answers as people did."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from torch import nn

from core.api import Context, Metric, Row, Score, UserError, of_mean, wilson
from plugins.preference.options import PreferenceOptions

ACCURACY, MARGIN = "rewards/accuracies", "rewards/margins"


class Preference(Metric):
    """Share of rows with a reward on the right side, as the objective counts them; a tie is half.

    Beside it, where the objective has pairs, the mean margin: how much more the chosen answer was rewarded.
    """

    def __init__(self, options: PreferenceOptions) -> None:
        self.options = options

    def measure(self, model: nn.Module, rows: Sequence[Row], context: Context) -> Score:
        """With the interval of a share.

        Raises:
            UserError: the objective has no rewards.
        """
        measured = list(context.measures(model, rows))
        known = [measures[ACCURACY] for measures in measured if ACCURACY in measures]
        if len(known) < len(measured):
            raise UserError("metric=preference is for objectives with rewards", "objective=dpo, or metric=loss")
        low, high = wilson(sum(known), len(known))
        also = _margin([measures[MARGIN] for measures in measured if MARGIN in measures])
        share = sum(known) / len(known)
        return Score("preference", share, len(known), low, high, "higher", unit="%", of_rows=known, also=also)


def _margin(margins: Sequence[float]) -> Sequence[Score]:
    if len(margins) < 2:
        return ()
    return (Score("margin", fmean(margins), len(margins), *of_mean(margins), "higher", of_rows=margins),)
