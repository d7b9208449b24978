from __future__ import annotations

import math
import random
from types import SimpleNamespace

from plugins.mean_loss.metric import MeanLoss, ratio
from plugins.mean_loss.options import MeanLossOptions


def test_tokens_weigh_the_same_whatever_row_they_are_in():
    context = SimpleNamespace(losses=lambda model, rows: iter(rows))
    score = MeanLoss(MeanLossOptions(name="loss", rows=300)).measure(None, [(6.0, 3.0), (1.0, 1.0)], context)
    assert (score.name, score.value, score.n, score.better) == ("loss", 7 / 4, 2, "lower")
    assert score.low < score.value < score.high
    assert list(score.samples) == []


def test_one_row_says_nothing_about_the_spread():
    assert ratio([(2.0, 4.0)]) == (0.5, math.inf)


def test_the_interval_covers_the_truth_about_19_times_in_20():
    chance = random.Random(0)

    def draw() -> tuple[float, float]:
        items = chance.randint(1, 20)
        return sum(chance.expovariate(0.5) for _ in range(items)), float(items)  # 2 nats an item

    found = [ratio([draw() for _ in range(100)]) for _ in range(400)]
    covered = sum(abs(mean - 2) <= half for mean, half in found) / 400
    assert 0.91 <= covered <= 0.98
