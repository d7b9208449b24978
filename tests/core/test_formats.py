from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import RowError, UserError
from core.formats import FORMATS, canonical, recognise
from core.options import COLUMNS

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["messages"], "messages"),
        (["id", "messages", "tools"], "messages"),
        (["prompt", "completion"], "prompt-completion"),
        (["instruction", "input", "output"], "alpaca"),
        (["instruction", "output"], "alpaca"),
        (["conversations", "tools"], "sharegpt"),
        (["conversations", "chosen", "rejected"], "preference"),
        (["prompt", "chosen", "rejected"], "preference"),
        (["chosen", "rejected"], "preference"),
        (["text"], "text"),
    ],
)
def test_columns_tell_the_format(columns, found):
    assert recognise(columns, "auto", {}) == found


def test_a_mapped_column_counts_as_the_canonical_one():
    assert recognise(["question", "answer"], "auto", {"prompt": "question", "completion": "answer"}) == (
        "prompt-completion"
    )


def test_columns_that_the_objective_asks_for_need_no_format():
    asked = frozenset({"label", "image|prompt"})
    assert recognise(["label", "image"], "auto", {}, asked) == "columns"


def test_unknown_columns_are_listed_with_what_to_type():
    with pytest.raises(UserError) as caught:
        recognise(["question", "answer"], "auto", {})
    assert "answer, question" in caught.value.what
    assert caught.value.fix == "data.columns.prompt=question data.columns.completion=answer"


@pytest.mark.parametrize(
    ("columns", "fix"),
    [
        (["Prompt", "COMPLETION"], "did you mean data.columns.prompt=Prompt data.columns.completion=COMPLETION?"),
        (["context", "question", "answer"], "data.columns.prompt=question data.columns.completion=answer"),
        (["Query", "Response", "id"], "data.columns.prompt=Query data.columns.completion=Response"),
        (["input", "output"], "data.columns.prompt=input data.columns.completion=output"),
        (["prompt", "answer"], "data.columns.completion=answer"),
        (["dialog"], "data.columns.messages=dialog"),
        (["my prompt", "completion"], "did you mean 'data.columns.prompt=\"my prompt\"'?"),
        (["a", "b"], "data.columns.prompt=COLUMN data.columns.completion=COLUMN, or data.columns.messages=COLUMN"),
        (["What is it?", "7"], "if line 1 is a row, write the columns' names above it, such as prompt,completion"),
    ],
)
def test_columns_of_other_names_are_mapped_by_what_the_error_says(columns, fix):
    with pytest.raises(UserError) as caught:
        recognise(columns, "auto", {})
    assert caught.value.fix == fix
    assert ("line 1 was taken as the header" in caught.value.what) == fix.startswith("if line 1")


def test_a_mapping_that_the_error_says_is_taken_as_it_is(monkeypatch):
    import shlex

    import core

    with pytest.raises(UserError) as caught:
        recognise(["the question", "answer"], "auto", {"prompt": "question"})
    pasted = shlex.split(caught.value.fix.partition("?")[0].removeprefix("did you mean "))
    config = core.configure(["data=jsonl", "data.train=x", *pasted])
    assert config.options["data"].columns == {"prompt": "the question"}


def test_a_column_that_is_not_in_the_file_is_refused():
    with pytest.raises(UserError, match=r"data\.columns\.prompt=qestion.*no such column") as caught:
        recognise(["question", "answer"], "auto", {"prompt": "qestion"})
    assert caught.value.fix == "did you mean data.columns.prompt=question?  one of answer, question"


@pytest.mark.parametrize("more", ["", "  ", None])
def test_alpaca_without_input_is_the_instruction_alone(more):
    row = {"instruction": "Say hi.", "input": more, "output": "hi"}
    assert canonical(row, "alpaca", {}) == {"prompt": "Say hi.", "completion": "hi"}


@pytest.mark.parametrize(
    ("row", "form", "field", "what"),
    [
        ({"prompt": "a"}, "prompt-completion", "completion", "is missing"),
        ({"prompt": "a", "completion": None}, "prompt-completion", "completion", "is missing"),
        ({"prompt": 3, "completion": "b"}, "prompt-completion", "prompt", "is not text"),
        ({"instruction": "a", "input": ["b"], "output": "c"}, "alpaca", "input", "is not text"),
        ({"messages": None}, "messages", "messages", "is missing"),
    ],
)
def test_a_row_that_does_not_fit_names_its_column(row, form, field, what):
    with pytest.raises(RowError) as caught:
        canonical(row, form, {})
    assert (caught.value.field, caught.value.what) == (field, what)


def test_an_error_names_the_column_of_the_file():
    with pytest.raises(RowError, match="answer: is missing"):
        canonical(
            {"question": "a", "answer": None}, "prompt-completion", {"prompt": "question", "completion": "answer"}
        )


def test_columns_can_be_swapped():
    mapped = {"prompt": "completion", "completion": "prompt"}
    assert canonical({"prompt": "a", "completion": "b"}, "prompt-completion", mapped) == {
        "prompt": "b",
        "completion": "a",
    }


@CALM
@given(
    row=st.dictionaries(st.sampled_from([*COLUMNS, "instruction", "input", "output", "id"]), st.none() | st.text()),
    form=st.sampled_from(sorted(FORMATS)),
)
def test_a_row_has_all_its_columns_or_is_an_error(row, form):
    try:
        found = canonical(row, form, {})
    except RowError:
        needed = [*FORMATS[form], *(["prompt"] if form == "preference" else [])]
        assert form == "sharegpt" or any(row.get(column) is None for column in needed)
        return
    wanted = ("prompt", "completion") if form == "alpaca" else FORMATS[form]
    wanted = {"sharegpt": ("messages",), "preference": ("prompt", "chosen", "rejected")}.get(form, wanted)
    assert all(found[column] is not None for column in wanted)


@CALM
@given(name=st.text(min_size=1).filter(lambda name: name not in ("prompt", "completion")), value=st.text())
def test_mapping_a_column_is_the_same_as_renaming_it(name, value):
    mapped = canonical({name: value, "completion": "c"}, "prompt-completion", {"prompt": name})
    assert mapped == {"prompt": value, "completion": "c"}
