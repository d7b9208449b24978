from __future__ import annotations

import copy
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core
from core.contracts import DataSource, Head, Objective, Tokens
from core.data import encode
from core.errors import RowError, UserError
from core.options import DataOptions
from core.plan import make_plan
from core.rows import Rows, prepared, read_rows
from core.run_data import read
from core.testing import tiny
from plugins.preference.kto import KTO
from plugins.preference.options import KTOOptions
from plugins.sft.objective import SFT
from plugins.sft.options import PretrainOptions, SFTOptions
from plugins.sft.pretrain import Pretrain

SFT_ = SFT(SFTOptions(name="sft", turns="all", prompt_weight=0.0, label_smoothing=0.0, z_loss=0.0, neftune_alpha=0.0))

KTO_ = KTO(KTOOptions(name="kto", beta=0.1, desirable_weight=1.0, undesirable_weight=1.0, block=4))
PRETRAIN = Pretrain(PretrainOptions(name="pretrain", label_smoothing=0.0, z_loss=0.0, neftune_alpha=0.0))


class Listed(DataSource):
    """Rows that a test wrote down."""

    def __init__(self, train, validation=None):
        self.sides = {"train": train, "validation": validation}

    def rows(self, split):
        return self.sides[split]


class Lengths(Objective):
    """A row's number of tokens, all of which are supervised."""

    columns: ClassVar[frozenset[str]] = frozenset({"length"})

    def encode(self, row, tokenizer):
        return {"length": Tokens(list(range(row["length"])), [1.0] * row["length"]), "number": 7}

    def loss(self, model, batch):
        raise NotImplementedError


def options(**changed) -> DataOptions:
    chosen = {
        "batch_size": 8,
        "max_length": 64,
        "on_bad_row": "stop",
        "format": "auto",
        "columns": {},
        "holdout": 0.1,
        "system": None,
        "group": None,
        "max_rows": None,
        "tolerance": 1.0,
        "packing": False,
        "cache": False,
    }
    return DataOptions(**{**chosen, **changed})


def pair(i: int = 0, **changed) -> dict[str, object]:
    return {"prompt": f"What is {i}?", "completion": f"{i}", **changed}


def reading(train, validation=None, *, seed=0, objective=SFT_, **changed):
    return read_rows(Listed(train, validation), objective, options(**changed), seed)


def encoding(rows, tokenizer=None, objective=SFT_, **changed):
    train, _ = reading(rows, objective=objective, holdout=0.0, **changed)
    (found,) = encode([prepared(train, objective)], objective, tokenizer, options(**changed), 1000, Head())
    return found


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


# ------------------------------------------------------------------------------------------------------------- reading
def test_rows_keep_their_order_and_origin():
    train, held = reading([pair(i) for i in range(3)], [pair(9)])
    assert train.rows == [pair(i) for i in range(3)]
    assert train.origins == ["train row 1", "train row 2", "train row 3"]
    assert (held.rows, held.origins, held.format) == ([pair(9)], ["validation row 1"], "prompt-completion")


@settings(deadline=None)
@given(n=st.integers(1, 200), share=st.floats(0, 0.9), seed=st.integers(0, 5))
def test_holding_out_splits_the_rows_and_depends_on_the_seed_alone(n, share, seed):
    train, held = reading([pair(i) for i in range(n)], seed=seed, holdout=share)
    assert len(held.rows) == (round(share * n) if n >= 40 else 0)
    assert sorted([*train.origins, *held.origins]) == sorted(f"train row {i + 1}" for i in range(n))
    again = reading([pair(i) for i in range(n)], seed=seed, holdout=share)
    assert (train, held) == again


def test_another_seed_holds_out_other_rows():
    rows = [pair(i) for i in range(100)]
    assert reading(rows, seed=0)[1].origins != reading(rows, seed=1)[1].origins


def test_at_most_500_rows_are_held_out():
    assert len(reading([pair(i) for i in range(6000)], holdout=0.5)[1].rows) == 500


def test_no_rows_at_all_are_refused():
    with pytest.raises(UserError, match="training data are empty"):
        reading([])


def test_unreadable_rows_stay_in_their_place():
    train, _ = reading([pair(0), RowError("", "not JSON"), 7, {"prompt": "a"}])
    assert [str(row) for row in train.rows[1:]] == ["not JSON", "is not an object", "completion: is missing"]


# ------------------------------------------------------------------------------------------------------------ encoding
def test_tokens_and_supervised_tokens_are_counted(tokenizer):
    found = encoding([pair(1), pair(2)], tokenizer)
    lengths = [len(example["completion"].ids) for example in found.examples]
    assert (found.facts.tokens, found.facts.supervised, found.facts.skipped, found.facts.truncated) == (
        sum(lengths),
        4,
        0,
        0,
    )
    assert found.rows == [pair(1), pair(2)]


def test_an_empty_side_encodes_to_nothing():
    (found,) = encode([Rows()], SFT_, None, options(), 10, Head())
    assert (found.examples, found.facts.tokens, found.facts.skipped) == ([], 0, 0)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=10), longest=st.integers(2, 40))
def test_sequences_are_cut_from_their_end(lengths, longest):
    found = encoding([{"length": n} for n in lengths], objective=Lengths(), max_length=longest)
    kept = [min(n, longest) for n in lengths]
    assert [list(e["length"].ids) for e in found.examples] == [list(range(n)) for n in kept]
    assert found.facts.truncated == sum(n > longest for n in lengths)
    assert found.facts.tokens == sum(kept)
    assert all(e["number"] == 7 for e in found.examples)


def test_the_first_token_is_never_supervised():
    (example,) = encoding([{"length": 3}], objective=Lengths()).examples
    assert list(example["length"].loss_weights) == [0.0, 1.0, 1.0]
    with pytest.raises(UserError, match="length: has no supervised token"):
        encoding([{"length": 1}], objective=Lengths())


def test_a_prompt_that_fills_max_length_says_how_long_it_is(tokenizer):
    long = pair(prompt="What is one plus two? " * 30)
    start = len(tokenizer.apply_chat_template([{"role": "user", "content": long["prompt"]}], add_generation_prompt=True,
                                              return_dict=True)["input_ids"])  # fmt: skip
    with pytest.raises(UserError) as caught:
        encoding([pair(), long], tokenizer)
    assert caught.value.what.startswith(
        f"train row 2: prompt: the prompt alone takes {start} tokens, data.max_length is 64"
    )
    assert caught.value.fix.startswith(f"data.max_length={start + 3}")  # the answer, its end and the line's


def test_an_answer_longer_than_max_length_is_cut_and_counted(tokenizer):
    found = encoding([pair(), pair(completion="one two " * 200)], tokenizer)
    assert found.facts.truncated == 1
    assert len(found.examples[1]["completion"].ids) == 64


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "messages: has no assistant message"),
        ({"messages": [{"role": "assistant", "content": ""}]}, "messages[0].content: is empty"),
        ({"messages": [{"role": "me", "content": "a"}]}, "messages[0].role: 'me' is not one of"),
        ({"messages": [{"role": "assistant", "content": 3}]}, "messages[0].content: is not text"),
        ({"messages": None}, "messages: is missing"),
        (RowError("", "not JSON: oops"), "not JSON: oops"),
    ],
)  # fmt: skip
def test_a_bad_row_stops_with_its_place_or_is_skipped_and_counted(tokenizer, bad, what):
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    with pytest.raises(UserError) as caught:
        encoding([good, bad, good], tokenizer)
    first, *_, last = caught.value.what.splitlines()
    assert first.startswith(f"train row 2: {what}")
    assert last.strip() == "1 of 3 rows cannot be used"
    assert "data.on_bad_row=skip" in caught.value.fix
    found = encoding([good, bad, good], tokenizer, on_bad_row="skip")
    assert (len(found.examples), found.facts.skipped, found.origins) == (2, 1, ["train row 1", "train row 3"])


def test_five_of_each_kind_are_shown_and_the_rest_counted(tokenizer):
    rows = [pair(), *[pair(completion="")] * 8, *[pair(prompt=3)] * 2]
    with pytest.raises(UserError) as caught:
        encoding(rows, tokenizer)
    lines = [line.strip() for line in caught.value.what.splitlines()]
    assert lines[:5] == [f"train row {i}: completion: is empty" for i in range(2, 7)]
    assert lines[5:7] == [f"train row {i}: prompt: is not text" for i in (10, 11)]
    assert lines[7:] == ["... and 3 more of this kind: completion: is empty", "10 of 11 rows cannot be used"]


def test_a_kind_is_said_with_the_values_that_all_of_its_rows_share(tokenizer):
    rows = [pair(), *[pair(weight=weight) for weight in (-1, "x", "it's", -2.5, -3, "y, not a number", "z" * 100)]]
    with pytest.raises(UserError) as caught:
        encoding(rows, tokenizer)
    assert caught.value.what.splitlines()[-2].strip() == (
        "... and 2 more of this kind: weight: is ..., not a number above 0"
    )


def test_skipping_every_row_leaves_nothing(tokenizer):
    with pytest.raises(UserError, match="3 of 3 rows cannot be used") as caught:
        encoding([pair(completion="")] * 3, tokenizer, on_bad_row="skip")
    assert "skip" not in caught.value.fix


def test_columns_of_the_objective_are_asked_for():
    with pytest.raises(
        UserError, match="train row 1: the objective needs length, the data offer completion and prompt"
    ):
        encoding([pair()], objective=Lengths())


def test_the_system_message_is_told_when_all_rows_share_it(tokenizer):
    def row(system):
        start = [{"role": "system", "content": system}] if system else []
        return {"messages": [*start, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}

    assert encoding([row("S"), row("S")], tokenizer).facts.system == "S"
    assert encoding([row("S"), row("T")], tokenizer).facts.system is None
    assert encoding([row("S"), row(None)], tokenizer).facts.system is None
    assert encoding([pair()], tokenizer).facts.system is None


class Doubling(Lengths):
    def prepare_rows(self, rows):
        return rows.map(lambda row: {"length": 2 * row["length"]})


class Filtering(Lengths):
    def prepare_rows(self, rows):
        return rows.select([0])


def test_rows_are_prepared_once_over_the_whole_set_bad_ones_left_out():
    rows = [{"length": 2}, RowError("", "not JSON"), {"length": 3}]
    found = encoding(rows, objective=Doubling(), on_bad_row="skip")
    assert ([len(e["length"].ids) for e in found.examples], found.origins) == ([4, 6], ["train row 1", "train row 3"])


def test_preparing_must_not_lose_rows():
    with pytest.raises(TypeError, match=r"Filtering\.prepare_rows must keep the number of rows"):
        encoding([{"length": 2}, {"length": 3}], objective=Filtering())


# ------------------------------------------------------------------------------------------------------- what is odd
@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (pair(prompt="half \ud83d"), "prompt: holds half a character"),
        ({"messages": [{"role": "user", "content": "\udc00"}]}, "messages[0].content: holds half a character"),
        (pair() | {7: "x"}, "has a column 7, whose name is not text"),
        (pair(weight=-1), "weight: is -1, not a number above 0"),
        (pair(weight="heavy"), "weight: is 'heavy', not a number above 0"),
        (pair(system=3), "system: is not text"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": "x"},
            "tools: is not a list of objects",
        ),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": [1]},
            "tools: is not a list of objects",
        ),
    ],
)
def test_an_odd_row_is_a_bad_row(tokenizer, bad, what):
    with pytest.raises(UserError) as caught:
        encoding([bad], tokenizer)
    assert caught.value.what.startswith(f"train row 1: {what}")


def test_tools_may_be_json_text(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{{ tools | tojson if tools }}" + tokenizer.chat_template
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    listed = encoding([{"messages": messages, "tools": [{"name": "add"}]}], tokenizer).examples
    assert '[{"name": "add"}]' in tokenizer.decode(listed[0]["completion"].ids)
    assert encoding([{"messages": messages, "tools": '[{"name": "add"}]'}], tokenizer).examples == listed


def test_a_weight_scales_the_supervised_tokens(tokenizer):
    plain, heavy = encoding([pair(), pair(weight="2.5")], tokenizer).examples
    assert [2.5 * w for w in plain["completion"].loss_weights] == list(heavy["completion"].loss_weights)
    assert plain["completion"].ids == heavy["completion"].ids


@pytest.mark.parametrize(
    "row", [pair(system="Be brief."), {"instruction": "What is 0?", "output": "0", "system": "Be brief."}]
)
def test_a_system_column_is_the_systems_message(tokenizer, row):
    said = [("system", "Be brief."), ("user", "What is 0?"), ("assistant", "0")]
    chat = {"messages": [{"role": role, "content": content} for role, content in said]}
    found = encoding([row], tokenizer)
    assert found.examples == encoding([chat], tokenizer).examples
    assert found.facts.system == "Be brief."


SPOKEN = {
    "prompt": [
        {"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "one"},
    ],
    "completion": [{"role": "assistant", "content": "three"}],
}  # fmt: skip


@pytest.mark.parametrize("objective", [SFT_, KTO_])
def test_a_system_message_changes_nothing_of_what_is_learned(tokenizer, objective):
    row = {**SPOKEN, **({} if objective is SFT_ else {"label": True})}
    found = [
        [id_ for id_, weight in zip(example.ids, example.loss_weights, strict=True) if weight]
        for given in (row, {**row, "system": "Be brief."})
        for example in [encoding([given], tokenizer, objective).examples[0]["completion"]]
    ]
    assert found[0] == found[1]
    assert tokenizer.decode(found[0]) == "three<|im_end|>"


def test_of_several_answers_the_last_may_be_learned_alone(tokenizer):
    row = {"prompt": "one", "completion": [*SPOKEN["prompt"][1:], *SPOKEN["completion"]]}
    learned = {}
    for turns in ("all", "last"):
        objective = SFT(replace(SFT_.options, turns=turns))
        example = encoding([row], tokenizer, objective).examples[0]["completion"]
        ids = [id_ for id_, weight in zip(example.ids, example.loss_weights, strict=True) if weight]
        learned[turns] = tokenizer.decode(ids)
    assert learned == {"all": "two<|im_end|>three<|im_end|>", "last": "three<|im_end|>"}


def test_a_column_of_messages_that_nothing_reads_may_be_anything(tokenizer):
    rows = [{"text": "one", "messages": value} for value in ("[]", {"a": 1}, [{"role": "system"}], [1], None)]
    assert len(encoding(rows, tokenizer, PRETRAIN).examples) == len(rows)


def test_columns_that_nothing_reads_are_known(tokenizer):
    assert encoding([pair(id=1, source="web")], tokenizer).facts.unused == ("id", "source")
    assert encoding([{"instruction": "a", "input": "", "output": "b"}], tokenizer).facts.unused == ()


def test_columns_that_are_not_recognised_name_the_file():
    with pytest.raises(UserError, match="train row 1: the data's format is not recognised"):
        reading([{"question": "a", "answer": "b"}])
    with pytest.raises(UserError, match="validation row 1: the data's format is not recognised"):
        reading([pair()], [{"question": "a", "answer": "b"}])


def test_bad_rows_of_both_sides_are_told_at_once(tokenizer):
    sides = reading([pair(), pair(completion="")], [pair(), pair(prompt=3)])
    with pytest.raises(UserError) as caught:
        encode(sides, SFT_, tokenizer, options(), 1000, Head())
    said = caught.value.what
    assert "train row 2: completion: is empty" in said
    assert "validation row 2: prompt: is not text" in said
    assert "2 of 4 rows cannot be used" in said
    train, held = encode(sides, SFT_, tokenizer, options(on_bad_row="skip"), 1000, Head())
    assert (train.facts.skipped, held.facts.skipped) == (1, 1)


def test_held_out_rows_must_not_vanish_altogether(tokenizer):
    sides = reading([pair()], [pair(completion="")])
    with pytest.raises(UserError, match="1 of 2 rows cannot be used"):
        encode(sides, SFT_, tokenizer, options(on_bad_row="skip"), 1000, Head())


def test_a_tokenizer_of_another_model_is_noticed(tokenizer):
    with pytest.raises(UserError, match=r"train row 1: the tokenizer gives token \d+, the model knows 5"):
        encode(reading([pair()]), SFT_, tokenizer, options(), 5, Head())


def test_an_error_of_the_template_names_the_row_it_was_seen_at(tokenizer):
    from copy import deepcopy

    broken = deepcopy(tokenizer)
    broken.chat_template = "{% for message in messages %}"
    with pytest.raises(UserError, match="train row 1: the model's chat template is broken"):
        encoding([pair()], broken)


def test_a_column_that_only_late_rows_have_can_be_mapped():
    rows = [*(pair() for _ in range(120)), pair(importance=3)]
    train, _ = read_rows(Listed(rows), SFT_, options(holdout=0.0, columns={"weight": "importance"}), 0)
    assert [row.get("weight") for row in train.rows[119:]] == [None, 3]
    with pytest.raises(UserError, match=r"data\.columns\.weight=imporance: no row that was read has") as caught:
        read_rows(Listed(rows), SFT_, options(holdout=0.0, columns={"weight": "imporance"}), 0)
    assert caught.value.fix.startswith("did you mean data.columns.weight=importance?")


def test_a_column_of_a_late_row_is_named():
    """A set that is mixed in stands behind the first hundred rows, too."""
    rows = [pair() for _ in range(120)]
    train, held_out = read_rows(Listed([*rows, pair(wieght=1)], [pair(contxt=2)]), SFT_, options(), 0)
    assert (train.unused, held_out.unused) == (("wieght",), ("contxt",))


@pytest.mark.parametrize(("length", "refused"), [(512, False), (513, True)])
def test_a_row_beyond_the_models_context_is_refused(tmp_path, monkeypatch, tiny_model, length, refused):
    """GPT-2 has no position for it, and others none that they were trained with."""
    monkeypatch.chdir(tmp_path)
    tiny.write_rows(tmp_path / "rows.jsonl", [{"text": "a " * length}])
    typed = [
        "objective=pretrain",
        f"model.path={tiny_model}",
        "data=jsonl",
        "data.train=rows.jsonl",
        "data.tolerance=1",
    ]
    plan = make_plan(core.configure([*typed, f"data.max_length={length}"]))
    if not refused:
        assert read(plan).train.facts.longest >= length
        return
    with pytest.raises(UserError, match=r"a row takes 513 tokens, and .* was made for 512") as caught:
        read(plan)
    assert caught.value.fix.startswith("data.max_length=512, or raise")
