"""What is odd about rows that can be used is said before training, and an error where it is too many of them."""

from __future__ import annotations

from copy import deepcopy

import pytest
from test_data import SFT_, Lengths, Listed, options, pair

from core.contracts import Head, Tokens
from core.data import Facts, encode
from core.errors import RowError, UserError
from core.lint import lint
from core.rows import prepared, read_rows
from plugins.preference.dpo import DPO
from plugins.preference.kto import KTO
from plugins.preference.options import DPOOptions, KTOOptions
from plugins.sft.objective import SFT
from plugins.sft.options import PretrainOptions, SFTOptions
from plugins.sft.pretrain import Pretrain

PRETRAIN = Pretrain(PretrainOptions(name="pretrain", label_smoothing=0.0, z_loss=0.0, neftune_alpha=0.0))


def dpo() -> DPO:
    return DPO(DPOOptions(name="dpo", beta=0.1, loss="sigmoid", label_smoothing=0.0, length_normalised=False))


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def said(train, validation=None, *, tokenizer=None, objective=SFT_, tolerance=1.0, **changed) -> list[str]:
    """The report on these rows."""
    chosen = options(holdout=0.0, on_bad_row="skip", **changed)
    sides = [prepared(rows, objective) for rows in read_rows(Listed(train, validation), objective, chosen, 0)]
    found = encode(sides, objective, tokenizer, chosen, 1000, Head())
    return list(lint(found[0].facts, found[1].facts, tolerance, chosen.max_length))


def different(number: int) -> list[dict[str, object]]:
    return [pair(i) for i in range(number)]


def test_of_rows_that_are_as_they_should_be_nothing_is_said(tokenizer):
    assert said(different(3), [pair(9)], tokenizer=tokenizer) == []


def test_duplicates_are_counted_beyond_the_first_and_never_an_error(tokenizer):
    rows = [pair(1), pair(2), pair(1), pair(1)]
    lines = said(rows, [pair(5), pair(5)], tokenizer=tokenizer, tolerance=0.0)
    assert lines == [
        "there twice: 2 rows to train (50.0%), first train row 3; 1 row held out (50.0%), first validation row 2"
    ]


def test_rows_that_differ_only_in_what_is_not_encoded_are_the_same(tokenizer):
    (line, unused) = said([pair(1, id=1), pair(1, id=2)], tokenizer=tokenizer)
    assert line == "there twice: 1 row to train (50.0%), first train row 2"
    assert unused == "columns that nothing reads: id"


def test_a_leak_is_counted_and_an_error_above_the_tolerance(tokenizer):
    held_out = [pair(7), pair(0), pair(8), pair(1)]
    assert said(different(3), held_out, tokenizer=tokenizer, tolerance=0.5) == [
        "trained on, too: 2 rows held out (50.0%), first validation row 2"
    ]
    with pytest.raises(UserError) as caught:
        said(different(3), held_out, tokenizer=tokenizer, tolerance=0.49)
    assert caught.value.what == (
        "2 rows of 4 held out are trained on, too: more than data.tolerance=0.49, first validation row 2"
    )
    assert caught.value.fix == (
        "data.group=COLUMN that tells rows apart, a data.validation of others, or data.tolerance=0.51"
    )


def test_prompts_that_are_trained_on_with_another_answer_are_counted(tokenizer):
    """A memorised prompt makes what is held out look better than it is; the same row is counted as such alone."""
    what = "whose prompt is trained on with another answer (data.group=COLUMN keeps such rows together)"
    held_out = [pair(9), pair(0), pair(1, completion="another")]
    leak, asked = said(different(3), held_out, tokenizer=tokenizer)
    assert leak == "trained on, too: 1 row held out (33.3%), first validation row 2"
    assert asked == f"{what}: 1 row held out (33.3%), first validation row 3"
    pairs = {"prompt": "q", "chosen": "yes", "rejected": "no"}
    assert said([pairs], [{**pairs, "chosen": "oh"}], tokenizer=tokenizer, objective=dpo()) == [
        f"{what}: 1 row held out (100.0%), first validation row 1"
    ]


def talk(*said_: str) -> dict[str, object]:
    return {"messages": [{"role": "user" if i % 2 == 0 else "assistant", "content": c} for i, c in enumerate(said_)]}


def test_a_conversation_that_only_begins_as_another_is_no_prompt_of_its(tokenizer):
    train = [talk("Hello", "Hi!", "One?", "1")]
    assert said(train, [talk("Hello", "Hi!", "Two?", "2")], tokenizer=tokenizer) == []
    assert "another answer" in said(train, [talk("Hello", "Hi!", "One?", "One")], tokenizer=tokenizer)[0]


def test_texts_have_no_prompt(tokenizer):
    assert said([{"text": "a b"}], [{"text": "a c"}], tokenizer=tokenizer, objective=PRETRAIN) == []


@pytest.mark.parametrize("where", ["prompt", "completion"])
def test_a_special_token_that_a_text_spells_is_said(tokenizer, where):
    """It becomes the token: an answer may end there, or a prompt may forge a turn."""
    what = "whose text spells a special token, which becomes that token: 1 row to train (50.0%), first train row 2"
    rows = [pair(0), pair(1, **{where: f"one {tokenizer.eos_token} two"})]
    assert said(rows, tokenizer=tokenizer) == [what]
    assert said([pair(0), pair(1, **{where: "one <|two|> </s>"})], tokenizer=tokenizer) == []
    assert what not in said([pair(0), pair(1, note=tokenizer.eos_token)], tokenizer=tokenizer)


def test_a_tokenizer_that_reads_special_tokens_as_text_makes_none_of_it(tokenizer):
    texts, what = [{"text": f"one {tokenizer.eos_token} two"}], "spells a special token"
    assert what in said(texts, tokenizer=tokenizer, objective=PRETRAIN)[0]
    literal = deepcopy(tokenizer)
    literal.split_special_tokens = True
    assert said(texts, tokenizer=literal, objective=PRETRAIN) == []


def test_a_text_of_many_pieces_counts_once(tokenizer):
    texts = [{"text": " ".join(map(str, range(start, start + 200)))} for start in (0, 1000)]
    lines = said([*texts, texts[0]], texts, tokenizer=tokenizer, objective=PRETRAIN, max_length=16)
    assert [line.partition(" (")[0] for line in lines[:2]] == [
        "trained on, too: 2 rows held out", "there twice: 1 row to train",
    ]  # fmt: skip


def test_what_is_cut_is_counted_and_an_error_above_the_tolerance():
    rows = [{"length": n} for n in (4, 9, 8, 10)]
    assert said(rows, objective=Lengths(), max_length=8)[0] == (
        "cut to data.max_length=8: 2 rows to train (50.0%), first train row 2"
    )
    with pytest.raises(UserError, match=r"2 rows of 4 to train are cut to data.max_length=8") as caught:
        said(rows, objective=Lengths(), max_length=8, tolerance=0.25)
    assert caught.value.fix == "data.max_length=10, or data.tolerance=0.51"


class Endless(Lengths):
    """All tokens are text; in rows of an even length the last one is the end token."""

    def encode(self, row, tokenizer):
        ids = [50] * row["length"]
        if row["length"] % 2 == 0:
            ids[-1] = tokenizer.eos_token_id
        return {"length": Tokens(ids, [1.0] * len(ids))}


def test_rows_that_teach_no_end_are_counted_unless_they_were_cut(tokenizer):
    rows = [{"length": n} for n in (4, 5, 6, 11)]
    lines = said(rows, tokenizer=tokenizer, objective=Endless(), max_length=8)
    assert lines == [
        "cut to data.max_length=8: 1 row to train (25.0%), first train row 4",
        "with no end token to learn: 1 row to train (25.0%), first train row 2",
    ]
    with pytest.raises(UserError, match=r"2 rows of 4 to train are with no end token to learn") as caught:
        said(rows, tokenizer=tokenizer, objective=Endless(), max_length=16, tolerance=0.2)
    assert "eos_token" in caught.value.fix


def test_texts_of_a_tokenizer_without_an_end_token_are_endless(tokenizer):
    without = deepcopy(tokenizer)
    without.eos_token = None
    rows = [{"text": "one two"}, {"text": "three"}]
    assert said(rows, tokenizer=tokenizer, objective=PRETRAIN) == []
    with pytest.raises(UserError, match=r"2 rows of 2 to train are with no end token to learn"):
        said(rows, tokenizer=without, objective=PRETRAIN, tolerance=0.5)


def test_a_first_token_that_the_tokenizer_and_the_text_both_give_is_doubled(tokenizer):
    from tokenizers.processors import TemplateProcessing

    begins = deepcopy(tokenizer)
    begins.bos_token = "<|im_start|>"
    begins.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", begins.bos_token_id)]
    )
    rows = [{"text": "one"}, {"text": "<|im_start|>two"}, {"text": "three"}]
    what = "beginning with the first token (BOS) twice"
    assert said(rows, tokenizer=begins, objective=PRETRAIN)[0] == f"{what}: 1 row to train (33.3%), first train row 2"
    with pytest.raises(UserError) as caught:
        said(rows, tokenizer=begins, objective=PRETRAIN, tolerance=0.3)
    assert what in caught.value.what
    assert caught.value.fix.startswith("take it out of the rows")


def test_each_row_that_is_skipped_is_named_up_to_five_of_a_kind(tokenizer):
    bad = [RowError("", "not JSON"), pair(completion=""), *[pair(prompt=i) for i in range(7)]]
    first, *places = said([*different(9), *bad], [pair(20), pair(21, completion="")], tokenizer=tokenizer)[0].split(
        "\n"
    )
    assert first == "skipped: 9 rows to train (50.0%); 1 row held out (50.0%)"
    assert [place.strip() for place in places] == [
        "train row 10: not JSON",
        "train row 11: completion: is empty",
        *[f"train row {i}: prompt: is not text" for i in range(12, 17)],
        "... and 2 more of this kind: prompt: is not text",
        "validation row 2: completion: is empty",
    ]


def test_too_many_skipped_rows_are_an_error_that_names_them(tokenizer):
    with pytest.raises(UserError) as caught:
        said([pair(0), pair(prompt=3), pair(completion=None)], tokenizer=tokenizer, tolerance=0.5)
    assert [line.strip() for line in caught.value.what.split("\n")] == [
        "2 rows of 3 to train are skipped: more than data.tolerance=0.5",
        "train row 2: prompt: is not text",
        "train row 3: completion: is missing",
    ]
    assert caught.value.fix == "mend the rows, or data.tolerance=0.68"


@pytest.mark.parametrize(
    ("messages", "more", "what"),
    [
        (["user", "user", "assistant"], {}, "with roles out of order"),
        (["user", "system", "assistant"], {}, "with roles out of order"),
        (["user", "assistant", "user"], {}, "ending in a message that nobody answers"),
        (["user", "tool", "assistant"], {}, "with roles out of order"),
        (["user", "assistant", "assistant"], {}, "with roles out of order"),
        (["user", "assistant"], {"tools": [{"name": "add"}]}, "with tools that the chat template leaves out"),
        ([("user", " "), "assistant"], {}, "in which the user says nothing"),
    ],
)
def test_odd_conversations_are_counted_and_trained_on(tokenizer, messages, more, what):
    turns = [turn if isinstance(turn, tuple) else (turn, f"text {i}") for i, turn in enumerate(messages)]
    row = {"messages": [{"role": role, "content": content} for role, content in turns], **more}
    lines = said([pair(), row], tokenizer=tokenizer, tolerance=0.0)
    assert lines == [f"{what}: 1 row to train (50.0%), first train row 2"]


@pytest.mark.parametrize(
    "roles",
    [
        ["user", "assistant"],
        ["system", "user", "assistant", "user", "assistant"],
        ["user", "call", "tool", "assistant"],
        ["user", "assistant", "call", "tool", "tool", "call", "tool", "assistant"],
        ["user", "call"],
    ],
)
def test_conversations_in_turn_are_not_odd(roles):
    from core.messages import oddities

    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "add", "arguments": {}}]}
    assert list(oddities([call if role == "call" else {"role": role, "content": "a"} for role in roles])) == []


def test_the_tolerance_that_an_error_proposes_is_enough():
    for count in range(1, 100):
        facts = Facts(rows=100, truncated=count)
        with pytest.raises(UserError) as caught:
            list(lint(facts, Facts(), (count - 1) / 100, 8))
        proposed = float(caught.value.fix.rpartition("=")[2])
        assert proposed <= 1
        assert len(list(lint(facts, Facts(), proposed, 8))) == 1


def test_columns_that_nothing_reads_are_named_whatever_they_are_called():
    (line,) = lint(Facts(rows=1, unused=("[/red]", "a\nb", "c" * 1000, "\udc00")), Facts(), 1.0, 8)
    assert line == r"columns that nothing reads: '[/red]', 'a\nb', " + "c" * 40 + r"..., '\udc00'"
    (line,) = lint(Facts(rows=1, unused=tuple(f"{i:03}" for i in range(100))), Facts(), 1.0, 8)
    assert line.endswith("018, 019 and 80 more")


class Everything(SFT):
    """As with ``objective.prompt_weight=1``: the line break that ChatML puts behind the end token is learned, too."""

    def encode(self, row, tokenizer):
        tokens = super().encode(row, tokenizer)["completion"]
        return {"completion": Tokens(tokens.ids, [1.0] * len(tokens.ids))}


def test_white_space_behind_the_end_token_is_no_end_that_lacks(tokenizer):
    options = SFTOptions(name="sft", label_smoothing=0.0, z_loss=0.0, neftune_alpha=0.0, turns="all", prompt_weight=1.0)
    rows = [{"messages": [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"{n}"}]}
            for n in range(4)]  # fmt: skip
    for objective in (SFT(options), Everything(options)):
        assert said(rows, tokenizer=tokenizer, objective=objective, tolerance=0.0) == []


def labelled(numbers, label=None) -> list[dict[str, object]]:
    return [
        {"prompt": f"q{n}", "completion": f"a{n}", "label": n % 2 == 0 if label is None else label} for n in numbers
    ]


def kto():
    return KTO(KTOOptions(name="kto", beta=0.1, desirable_weight=1.0, undesirable_weight=1.0, block=4))


def test_rows_that_borrow_from_others_are_told_apart_by_their_own(tokenizer):
    """KTO gives each row its neighbour's answer, which another order changes."""
    assert said(labelled([0, 1, 2, 1, 3, 1]), tokenizer=tokenizer, objective=kto())[0] == (
        "there twice: 2 rows to train (33.3%), first train row 4"
    )
    with pytest.raises(UserError, match="8 rows of 8 held out are trained on, too"):
        said(labelled(range(8)), labelled(range(7, -1, -1)), tokenizer=tokenizer, objective=kto(), tolerance=0.5)


@pytest.mark.parametrize(
    ("objective", "row", "column"),
    [
        (SFT_, {"text": "x", "prompt": "a", "completion": "b"}, "text"),
        (PRETRAIN, {"text": "a b c", "weight": "heavy"}, "weight"),
        (kto(), {"prompt": "a", "completion": "b", "label": True, "weight": -5}, "weight"),
    ],
)
def test_columns_that_the_objective_does_not_read_are_said(tokenizer, objective, row, column):
    (*_, line) = said([row], tokenizer=tokenizer, objective=objective)
    assert line == f"columns that nothing reads: {column}"


def test_a_weight_that_the_objective_reads_is_not(tokenizer):
    assert said([pair(1, weight=2)], tokenizer=tokenizer) == []


def test_a_column_that_was_mapped_in_vain_is_an_error(tokenizer):
    with pytest.raises(UserError, match=r"data\.columns\.weight=score: the objective does not read weight"):
        said([{**labelled([1])[0], "score": 2}], tokenizer=tokenizer, objective=kto(), columns={"weight": "score"})


def test_answers_that_a_label_calls_bad_are_learned_and_that_is_said(tokenizer):
    """Rows for KTO are prompts and completions, too."""
    lines = said(labelled([1, 2], label=False), tokenizer=tokenizer)
    assert lines == [
        "label is not read: every answer is learned, whatever it says of it; objective=kto learns from both kinds",
    ]


def test_pairs_that_are_the_same_once_they_are_cut_are_counted(tokenizer):
    """They are told apart by nothing that is trained."""
    long = "two " * 40
    rows = [{"prompt": f"q{n}", "chosen": f"{long}{end}", "rejected": f"{long}no"} for n, end in enumerate(["a", "b"])]
    rows.append({"prompt": "q", "chosen": f"yes {long}", "rejected": f"no {long}"})
    cut, alike = said(rows, tokenizer=tokenizer, objective=dpo(), max_length=30)
    assert cut == "cut to data.max_length=30: 3 rows to train (100.0%), first train row 1"
    assert alike == "with answers that are the same once they are cut: 2 rows to train (66.7%), first train row 1"
    assert said(rows, tokenizer=tokenizer, objective=dpo(), max_length=200) == []


def test_keys_of_messages_that_the_template_leaves_out_are_named(tokenizer):
    def row(**more):
        return {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **more}]}

    assert said([row(weight=0.5), row(name=None)], tokenizer=tokenizer)[1:] == []
    *_, line = said([row(reasoning_content="Hm.", train=False)], [row(name="Ann")], tokenizer=tokenizer)
    assert line == "keys of messages that the chat template leaves out: name, reasoning_content, train"
    thinking = deepcopy(tokenizer)
    thinking.chat_template = tokenizer.chat_template + "{# message.reasoning_content #}"
    thinking.chat_template += "{# a model named so, in training #}"
    *_, line = said([row(reasoning_content="Hm.", train=False, name="Ann")], tokenizer=thinking)
    assert line == "keys of messages that the chat template leaves out: name, train"


def test_answers_that_one_row_likes_and_another_does_not_are_counted(tokenizer):
    rows = [*labelled([1, 2, 3, 4]), *labelled([1, 2], label=True)]
    found = encode(
        [prepared(rows_, kto()) for rows_ in read_rows(Listed(rows), kto(), options(holdout=0.0), 0)],
        kto(), tokenizer, options(), 1000, Head(),
    )  # fmt: skip
    assert list(kto().check_examples(found[0].examples))[-1] == "answers labelled both true and false: 1"


def test_an_answer_that_cannot_be_used_is_lent_to_no_other_row(tokenizer):
    rows = labelled(range(6))
    rows[2]["completion"] = "   "
    (line,) = (line for line in said(rows, tokenizer=tokenizer, objective=kto()) if line.startswith("skipped"))
    assert line.startswith("skipped: 1 row to train (16.7%)\n       train row 3: completion: is empty")


def test_a_borrowed_answer_that_is_cut_or_counted_is_none_of_the_rows_own(tokenizer):
    rows = labelled(range(9))
    plain = encoded_by(kto(), rows, tokenizer)
    alone = encoded_by(SFT_, [{k: v for k, v in row.items() if k != "label"} for row in rows], tokenizer)
    assert (plain.tokens, plain.supervised) == (alone.tokens, alone.supervised)
    for row in rows[::3]:
        row["completion"] = "long " * 100
    assert encoded_by(kto(), rows, tokenizer).truncated == 3


def encoded_by(objective, rows, tokenizer) -> Facts:
    sides = [prepared(side, objective) for side in read_rows(Listed(rows), objective, options(holdout=0.0), 0)]
    return encode(sides, objective, tokenizer, options(), 1000, Head())[0].facts


def test_kto_that_learns_from_neither_kind_is_refused():
    with pytest.raises(UserError, match="both 0: nothing is learned"):
        KTOOptions(name="kto", beta=0.1, desirable_weight=0.0, undesirable_weight=0.0, block=4)


def test_text_that_was_read_in_a_wrong_encoding_is_said(tokenizer):
    garbled = "“tea” 3 €".encode("cp1252").decode("latin-1")
    assert said([pair(1), pair(2, completion=garbled)], tokenizer=tokenizer) == [
        "with control characters (U+0080 to U+009F), as of text read in a wrong encoding: 1 row to train (50.0%), "
        "first train row 2"
    ]
    assert said([pair(1), pair(2, completion="“tea” 3 €")], tokenizer=tokenizer) == []


def test_a_role_that_is_misspelt_is_guessed(tokenizer):
    rows = [pair(1), {"messages": [{"role": "asistant", "content": "a"}]}]
    assert "did you mean assistant?" in said(rows, tokenizer=tokenizer)[0]
