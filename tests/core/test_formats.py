from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from core.compose import configure
from core.contracts import DataSource, Head
from core.data import encode
from core.errors import RowError, UserError
from core.formats import FORMATS, canonical, recognise
from core.options import COLUMNS, DataOptions
from core.recognised import Recognised
from core.rows import prepared, read_rows

COMMON = yaml.safe_load((Path(__file__).parents[2] / "conf" / "data" / "common.yaml").read_text())
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
        (
            ["question_id", "User Question", "model_answer"],
            "'data.columns.prompt=\"User Question\"' data.columns.completion=model_answer",
        ),
        (
            ["question", "best answer", "wrong answer"],  # which of the two cannot be told
            "data.columns.prompt=COLUMN data.columns.completion=COLUMN, or data.columns.messages=COLUMN",
        ),
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
        Recognised(["the question", "answer"], "auto", {"prompt": "question"}, ["prompt"])
    pasted = shlex.split(caught.value.fix.partition("?")[0].removeprefix("did you mean "))
    config = core.configure(["data=jsonl", "data.train=x", *pasted])
    assert config.options["data"].columns == {"prompt": "the question"}


def test_a_column_that_is_not_in_the_file_is_refused():
    with pytest.raises(
        UserError, match=r"data\.columns\.prompt=qestion: no row that was read has such a column"
    ) as caught:
        Recognised(["question", "answer"], "auto", {"prompt": "qestion"}, ["prompt"])
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
        unanswered = form == "alpaca" and not (row.get("output") or "").strip()
        assert form == "sharegpt" or unanswered or any(row.get(column) is None for column in needed)
        return
    wanted = ("prompt", "completion") if form == "alpaca" else FORMATS[form]
    wanted = {"sharegpt": ("messages",), "preference": ("prompt", "chosen", "rejected")}.get(form, wanted)
    assert all(found[column] is not None for column in wanted)


@CALM
@given(name=st.text(min_size=1).filter(lambda name: name not in ("prompt", "completion")), value=st.text())
def test_mapping_a_column_is_the_same_as_renaming_it(name, value):
    mapped = canonical({name: value, "completion": "c"}, "prompt-completion", {"prompt": name})
    assert mapped == {"prompt": value, "completion": "c"}


# ----------------------------------------------------------------------------------------- as they are written, encoded
ASKED, SAID, OTHER = "What is one plus two?", "three", "four"
CALL = {"name": "add", "arguments": {"a": 1, "b": 2}}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}]


def user(text: str = ASKED) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str = SAID) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def shared(*turns: str) -> list[dict[str, str]]:
    """ShareGPT's form of turns, the human's first."""
    return [{"from": "gpt" if i % 2 else "human", "value": text} for i, text in enumerate(turns)]


SUPERVISED = {
    "messages": {"messages": [user(), assistant()]},
    "sharegpt": {"conversations": shared(ASKED, SAID)},
    "alpaca": {"instruction": ASKED, "output": SAID},
    "prompt-completion": {"prompt": ASKED, "completion": SAID},
    "prompt-completion of messages": {"prompt": [user()], "completion": [assistant()]},
    "another name": {"question": ASKED, "answer": SAID},
}
PAIRS = {
    "strings": {"prompt": ASKED, "chosen": SAID, "rejected": OTHER},
    "messages": {"prompt": [user()], "chosen": [assistant()], "rejected": [assistant(OTHER)]},
    "implicit": {"chosen": [user(), assistant()], "rejected": [user(), assistant(OTHER)]},
    "implicit beside a prompt": {
        "prompt": ASKED, "chosen": [user(), assistant()], "rejected": [user(), assistant(OTHER)],
    },
    "sharegpt": {
        "conversations": shared(ASKED),
        "chosen": {"from": "gpt", "value": SAID},
        "rejected": {"from": "gpt", "value": OTHER},
    },
}  # fmt: skip
UNPAIRED = {
    "strings": {"prompt": ASKED, "completion": SAID, "label": True},
    "messages": {"prompt": [user()], "completion": [assistant()], "label": True},
}


@pytest.fixture(scope="module")
def encoded(tiny_model):
    """``encoded(objective, row)``: the format that is shown, the example, and the tokenizer."""

    def run(objective: str, *rows: dict[str, object], **changed):
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.chat_template = changed.pop("template", tokenizer.chat_template)
        options = DataOptions(**{**COMMON, "holdout": 0.0, **changed})
        config = configure([f"objective={objective}", f"model.path={tiny_model}"])
        made = config.registry.make(config.offers["objective"], config.options["objective"])
        train, _ = read_rows(Written(rows), made, options, 0)
        (found,) = encode([prepared(train, made)], made, tokenizer, options, 1000, Head())
        return found.facts.format, found.examples[0], tokenizer

    return run


class Written(DataSource):
    """Rows that a test wrote down."""

    def __init__(self, rows):
        self.written = rows

    def rows(self, split):
        return self.written if split == "train" else ()


def told(tokens, tokenizer) -> tuple[str, str]:
    """All of a sequence and what of it is supervised, as text."""
    learned = [token for token, weight in zip(tokens.ids, tokens.loss_weights, strict=True) if weight]
    return tokenizer.decode(tokens.ids), tokenizer.decode(learned)


CHAT = f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n{{}}<|im_end|>\n"


@pytest.mark.parametrize("name", SUPERVISED)
def test_every_form_of_an_answer_is_the_same_tokens(encoded, name):
    mapped = {"prompt": "question", "completion": "answer"} if name == "another name" else {}
    form, example, tokenizer = encoded("sft", SUPERVISED[name], columns=mapped)
    assert form == ("prompt-completion" if mapped else name.split()[0])
    assert told(example["completion"], tokenizer) == (CHAT.format(SAID), f"{SAID}<|im_end|>")


@pytest.mark.parametrize("name", PAIRS)
def test_every_form_of_a_pair_is_the_same_tokens(encoded, name):
    form, example, tokenizer = encoded("dpo", PAIRS[name])
    assert form == "preference"
    for side, text in (("chosen", SAID), ("rejected", OTHER)):
        assert told(example[side], tokenizer) == (CHAT.format(text), f"{text}<|im_end|>")


@pytest.mark.parametrize("name", UNPAIRED)
def test_every_form_of_a_judged_answer_is_the_same_tokens(encoded, name):
    others = [{**UNPAIRED[name], "label": i % 2 == 0} for i in range(3)]
    form, example, tokenizer = encoded("kto", UNPAIRED[name], *others)
    assert form == "unpaired"
    sequence = next(value for value in example.values() if hasattr(value, "ids"))
    assert told(sequence, tokenizer) == (CHAT.format(SAID), f"{SAID}<|im_end|>")
    assert 1 in [value for value in example.values() if not hasattr(value, "ids")]


def test_text_is_learned_whole(encoded):
    form, example, tokenizer = encoded("pretrain", {"text": ASKED})
    (tokens,) = example.values()
    assert form == "text"
    assert told(tokens, tokenizer)[0] == f"{ASKED}<|im_end|>"


@pytest.mark.parametrize("form", ["messages", "alpaca", "preference"])
def test_a_format_may_be_named_in_place_of_recognised(encoded, form):
    row = {**SUPERVISED["messages"], **SUPERVISED["alpaca"], **PAIRS["strings"]}
    objective = "dpo" if form == "preference" else "sft"
    assert encoded(objective, row, format=form)[0] == form


# Hermes' way to call tools, which Qwen's and others' templates share
WITH_TOOLS = (
    "{% if tools %}<|im_start|>system\nTools:{% for t in tools %} {{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALLS = {
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": ASKED},
            {"from": "function_call", "value": json.dumps(CALL)},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": SAID},
        ],
        "tools": json.dumps(TOOLS),
    },
    "messages": {
        "messages": [
            user(),
            {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALL}]},
            {"role": "tool", "content": "3"},
            assistant(),
        ],
        "tools": TOOLS,
    },
    "messages, arguments as text": {
        "messages": [
            user(),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {**CALL, "arguments": '{"a": 1, "b": 2}'}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "3"},
            assistant(),
        ],
        "tools": TOOLS,
    },
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_tools_are_learned_and_their_results_are_not(encoded, name):
    form, example, tokenizer = encoded("sft", CALLS[name], template=WITH_TOOLS, max_length=1024)
    assert form == name.split(",")[0]
    text, learned = told(example["completion"], tokenizer)
    assert text.startswith("<|im_start|>system\nTools: {")
    assert '"description": "Adds."' in text
    assert "<|im_start|>tool\n3<|im_end|>" in text
    assert learned == f'<tool_call>add {{"a": 1, "b": 2}}</tool_call><|im_end|>{SAID}<|im_end|>'


@pytest.mark.parametrize("name", CALLS)
def test_a_template_that_joins_arguments_gets_them_as_text(encoded, name):
    joining = WITH_TOOLS.replace("{{ c.function.arguments | tojson }}", "{{ ' ' + c.function.arguments }}")
    _, example, tokenizer = encoded("sft", CALLS[name], template=joining, max_length=1024)
    assert '<tool_call>add  {"a": 1, "b": 2}</tool_call>' in told(example["completion"], tokenizer)[1]


def test_messages_of_a_table_lose_their_empty_keys(encoded):
    """A parquet file gives every message all the keys that any has; templates ask whether one is there."""
    asking = "{% for m in messages if m.tool_calls is defined %}{{ m.tool_calls | length }}{% endfor %}" + WITH_TOOLS
    rows = [{"messages": [{**user(), "tool_calls": None}, {**assistant(), "tool_calls": None}]}]
    _, example, tokenizer = encoded("sft", *rows, template=asking)
    assert told(example["completion"], tokenizer) == (CHAT.format(SAID), f"{SAID}<|im_end|>")


def test_a_template_that_knows_no_tools_refuses_their_calls(encoded):
    with pytest.raises(UserError, match="the model's chat template leaves calls of tools out"):
        encoded("sft", CALLS["messages"])


# ------------------------------------------------------------------------------------------------ nothing is lost
def test_a_turn_of_sharegpt_keeps_what_else_it_says():
    said = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 0, "score": 3}]
    assert canonical({"conversations": said}, "sharegpt", {})["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "weight": 0, "score": 3},
    ]


def test_a_system_column_is_read_beside_messages():
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = {"messages": said, "system": "Be brief."}
    told = [{"role": "system", "content": "Be brief."}, *said]
    assert canonical(row, "messages", {})["messages"] == told
    assert canonical({"messages": told, "system": "Be long."}, "messages", {})["messages"] == told
    assert canonical(row, "messages", {}, system="")["messages"] == said
    assert Recognised(["messages", "system"], "auto", {}, ["messages|completion"]).unused(row) == ()


@pytest.mark.parametrize(
    ("wanted", "left", "passed"),
    [("auto", "messages", ("completion", "prompt")), ("prompt-completion", "completion", ("messages",))],
)
def test_of_two_ways_to_say_it_the_formats_own_is_taken_and_the_other_named(wanted, left, passed):
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = {"messages": said, "prompt": "c", "completion": "d"}
    known = Recognised(sorted(row), wanted, {}, ["messages|completion"], {"prompt"})
    found = known.canonical(row, None)
    assert left in found
    assert not set(passed) & set(found)
    assert known.unused(row) == passed


def test_an_objective_that_needs_both_gets_both():
    row = {"messages": [{"role": "assistant", "content": "b"}], "prompt": "c"}
    known = Recognised(sorted(row), "auto", {}, ["messages", "prompt"])
    assert known.canonical(row, None) == row
    assert known.unused(row) == ()


def conversations(start: str) -> dict[str, list[dict[str, str]]]:
    return {
        column: [{"role": "user", "content": start}, {"role": "assistant", "content": column}]
        for column in ("chosen", "rejected")
    }


@pytest.mark.parametrize("prompt", ["What is it?", "\n\nHuman: What is it?\n\nAssistant:", " what", "", None])
def test_a_prompt_beside_whole_conversations_is_what_they_begin_with(prompt):
    row = {"prompt": prompt and prompt.replace(" what", "What"), **conversations("What is it? ")}
    assert canonical(row, "preference", {})["prompt"] == [{"role": "user", "content": "What is it? "}]


def test_a_prompt_that_says_otherwise_than_the_conversations_is_refused():
    with pytest.raises(RowError, match="prompt: is not what chosen and rejected begin with"):
        canonical({"prompt": "REAL PROMPT", **conversations("OTHER")}, "preference", {})


def test_a_mapping_is_for_the_rows_that_have_its_columns():
    """Files that are mixed may have other columns, whichever comes first."""
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    talk, pair = {"messages": said, "country": "c"}, {"question": "d", "reply": "e"}
    mapped = {"prompt": "question", "completion": "reply"}
    for first, second in ((talk, pair), (pair, talk)):
        known = Recognised(sorted(first), "auto", mapped, ["messages|completion"], {"prompt"})
        found = [known.canonical(row, None) for row in (first, second)]
        assert {"prompt": "d", "completion": "e"} in found
        assert next(row for row in found if "messages" in row)["messages"] == said
    with pytest.raises(UserError, match="no row that was read has such a column"):
        Recognised(["question", "other"], "auto", mapped, ["messages|completion"], {"prompt"})
