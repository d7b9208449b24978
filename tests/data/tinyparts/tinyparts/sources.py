"""A source that is not ours: a table to train on, a stream to measure on, no files."""

from datasets import Dataset

from core.api import DataSource, RowError

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven"]


class Sums(DataSource):
    metric = "longest"

    def __init__(self, options):
        self.options = options

    def rows(self, split):
        pairs = [(a, b) for a in range(4) for b in range(4) if (a + b) % 3 == 0 or split == "train"]
        found = [
            {"q": f"What is {WORDS[a]} plus {WORDS[b]}?", "a": WORDS[a + b], "label": (a + b) % 2} for a, b in pairs
        ]
        if split == "train":
            return Dataset.from_list(found)
        return iter([*found, RowError("q", "is illegible")])
