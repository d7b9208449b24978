"""How often a model ranks answers as people did."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from core.api import Context, Metric, Row, Score, UserError, wilson
from plugins.preference.options import PreferenceOptions

LOGGED = "rewards/accuracies"


class Preference(Metric):
    """Share of rows with a reward on the right side, as the objective counts them; a tie is half."""

    def __init__(self, options: PreferenceOptions) -> None:
        self.options = options

    def measure(self, model: nn.Module, rows: Sequence[Row], context: Context) -> Score:
        """With the interval of a share.

        Raises:
            UserError: the objective has no rewards.
        """
        right = [measures.get(LOGGED) for measures in context.measures(model, rows)]
        known = [share for share in right if share is not None]
        if len(known) < len(right):
            raise UserError("metric=preference is for objectives with rewards", "objective=dpo, or metric=loss")
        low, high = wilson(sum(known), len(known))
        return Score("preference", sum(known) / len(known), len(known), low, high, "higher", unit="%", of_rows=known)
