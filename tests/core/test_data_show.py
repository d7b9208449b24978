"""``data show``: what is shown is what is trained, from where, and nothing in a row can act on a terminal or a page."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

import core
from core import stages
from core.contracts import Tokens
from core.pieces import pieces
from core.plan import make_plan
from core.testing import tiny

TALK = [
    {"role": "user", "content": "One\x1b[31m\u202e <script>alert(1)</script> & käse?"},
    {"role": "assistant", "content": 'two <b>three</b>\n\n🧀🧀 &amp; "four"'},
    {"role": "user", "content": "five"},
    {"role": "assistant", "content": "six"},
]


@pytest.fixture
def show(tmp_path, tiny_model, monkeypatch, capsys):
    """``show(rows, "--rows=2")``: exit code, output and errors of ``data show`` over these rows; in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)

    def run(rows, *typed: str) -> tuple[int, str, str]:
        from core.cli import command

        code = command(["data", "show", *overrides(rows), *typed])
        return (code, *capsys.readouterr())

    def overrides(rows) -> list[str]:
        tiny.write_rows(tmp_path / "rows.jsonl", rows)
        return [f"model.path={tiny_model}", "data=jsonl", "data.train=rows.jsonl", "data.tolerance=1"]

    run.overrides = overrides
    return run


def supervised(printed: str) -> list[str]:
    """What stands in brackets, ids left out, lines joined."""
    text = "\n".join(line for line in printed.splitlines() if not re.fullmatch(r"[\s\d⟦⟧.:]*", line) or "⏎" in line)
    return [found.replace("⏎\n    ", "\n") for found in re.findall(r"⟦(?:[\d.]+: )?(.*?)⟧", text, re.DOTALL)[2:]]


class Page(HTMLParser):
    """The page as a reader has it: texts, supervised texts and ids of each sequence, and every tag and attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sequences: list[dict[str, list]] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "input"):
            self.open.append(tag)
        if tag == "pre":
            self.sequences.append({"text": [], "supervised": [], "ids": [], "weights": []})
        if "pre" in self.open and tag == "span":
            self.sequences[-1]["ids"] += map(int, dict(attrs)["data-ids"].split())
        if "pre" in self.open and tag == "b":
            self.sequences[-1]["weights"].append(float(dict(attrs)["data-weight"]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "pre" in self.open:
            self.sequences[-1]["text"].append(data)
            if "b" in self.open:
                self.sequences[-1]["supervised"].append(data)


def test_the_first_rows_are_printed_with_what_is_supervised_in_brackets(show):
    code, out, err = show(tiny.sums(), "--rows", "2")
    assert (code, err) == (0, "")
    first, second = tiny.sums()[:2]
    assert supervised(out) == [f"{row['completion']}<|im_end|>" for row in (first, second)]
    assert re.findall(r"^rows\.jsonl:\d+$", out, re.MULTILINE) == ["rows.jsonl:1", "rows.jsonl:2"]
    assert "61 to train, 3 held out; 1,462 tokens, 13.4% of them supervised; format prompt-completion" in out
    assert "21 tokens, 3 supervised" in out
    assert "\x1b" not in out


def test_a_terminal_gets_colours(show, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    _, out, _ = show(tiny.sums(), "--rows=1")
    out = out.replace("\x1b[0m\x1b[32m", "")  # from piece to piece
    assert "\x1b[32m⟦no\x1b[0m\x1b[1;32m<|im_end|>" in out  # green: the answer
    assert "\x1b[1;36m<|im_start|>\x1b[0m" in out  # special, and not learned


def test_the_ids_are_those_that_are_trained(show, tmp_path):
    rows = [{"messages": TALK}, {"messages": TALK[2:]}]
    _, out, _ = show(rows)
    printed = [
        int(id) for line in re.findall(r"^ {6}([\d ⟦⟧]+)$", out, re.MULTILINE) for id in re.findall(r"\d+", line)
    ]
    plan = make_plan(core.configure(show.overrides(rows)))
    assert printed == [id for example in stages.read(plan).train.examples for id in example["completion"].ids]


def test_a_page_holds_the_same_and_escapes_all(show, tmp_path):
    rows = [{"messages": TALK}, {"messages": TALK[2:]}]
    code, out, _ = show(rows, "--html", "rows.html")
    assert (code, "wrote rows.html" in out) == (0, True)
    text = (tmp_path / "rows.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert not {"script", "link", "img", "iframe"} & page.tags
    assert not {"src", "href", "onerror", "onclick"} & page.attributes
    assert "://" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text

    plan = make_plan(core.configure(show.overrides(rows)))
    examples = stages.read(plan).train.examples
    assert [sequence["ids"] for sequence in page.sequences] == [list(e["completion"].ids) for e in examples]
    whole = plan.tokenizer.decode(examples[0]["completion"].ids)
    assert "".join(page.sequences[0]["text"]) == whole.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    said = [turn["content"] + "<|im_end|>" for turn in TALK if turn["role"] == "assistant"]
    assert "".join(page.sequences[0]["supervised"]) == "".join(said)
    assert "".join(page.sequences[1]["supervised"]) == "six<|im_end|>"


def test_chosen_and_rejected_are_shown_each(show, tmp_path):
    rows = [
        {"prompt": "One?", "chosen": "two", "rejected": "three four"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
    ]
    code, out, _ = show(rows, "objective=dpo", "--rows=1")
    assert code == 0
    assert supervised(out) == ["two<|im_end|>", "three four<|im_end|>"]
    assert re.findall(r"^  (\w+): \d+ tokens, \d+ supervised$", out, re.MULTILINE) == ["chosen", "rejected"]
    show(rows, "objective=dpo", "--html=rows.html")
    page = Page((tmp_path / "rows.html").read_text(encoding="utf-8"))
    assert ["".join(s["supervised"]) for s in page.sequences[:2]] == ["two<|im_end|>", "three four<|im_end|>"]


def test_a_label_is_shown(show):
    rows = [{"prompt": "a", "completion": "b", "label": i % 2 == 0} for i in range(4)]
    _, out, _ = show(rows, "objective=kto", "--rows=2")
    assert re.search(r"^rows\.jsonl:1  .*label=1", out, re.MULTILINE)
    assert re.search(r"^rows\.jsonl:2  .*label=0", out, re.MULTILINE)


def test_weights_that_are_neither_0_nor_1_are_visible(show, tmp_path):
    rows = [{"prompt": "a", "completion": "one", "weight": 0.25}, {"prompt": "b", "completion": "two", "weight": 1}]
    _, out, _ = show(rows)
    assert "⟦0.25: one<|im_end|>⟧" in out
    assert "⟦two<|im_end|>⟧" in out
    show(rows, "--html", "rows.html")
    page = Page((tmp_path / "rows.html").read_text(encoding="utf-8"))
    assert [set(sequence["weights"]) for sequence in page.sequences] == [{0.25}, {1.0}]


def test_a_cut_is_marked_with_what_lies_behind_it(show):
    answer = "one two three " * 40
    _, out, _ = show([{"prompt": "a", "completion": answer}, {"prompt": "a", "completion": "b"}], "data.max_length=64")
    _, whole, _ = show([{"prompt": "a", "completion": answer}], "--rows=1")
    total = int(re.search(r"completion: (\d+) tokens", whole)[1])
    assert out.count("✂") == 1
    assert f"✂ cut: {total - 64} more tokens lie behind data.max_length=64" in out
    assert "✂" not in whole
    assert "cut to data.max_length=64: 1 row to train (50.0%)" in out


def test_a_long_text_is_shown_part_by_part(show):
    rows = [{"text": "one two three " * 30}, {"text": "four"}]
    _, out, _ = show(rows, "objective=pretrain", "data.max_length=50", "--rows=9")
    origins = re.findall(r"^rows\.jsonl:\d", out, re.MULTILINE)
    assert origins == ["rows.jsonl:1"] * 2 + ["rows.jsonl:2"]
    assert ("part 1 of 2 of the row" in out, "part 2 of 2 of the row" in out) == (True, True)
    assert "\n    one⟦ two three" in out  # nothing comes before the first token that could predict it


@pytest.mark.parametrize("again", ["read", "from the cache"])
def test_rows_behind_a_skipped_one_keep_their_place(show, again):
    rows = [{"prompt": "a", "completion": ""}, {"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "c"}]
    typed = ("data.on_bad_row=skip", f"seed={len(again)}")
    for _ in range(1 if again == "read" else 2):
        code, out, _ = show(rows, *typed)
    assert code == 0
    assert re.findall(r"^rows\.jsonl:\d", out, re.MULTILINE) == ["rows.jsonl:2", "rows.jsonl:3"]
    assert supervised(out) == ["b<|im_end|>", "c<|im_end|>"]
    assert "skipped: 1 row to train (33.3%)" in out


def test_held_out_rows_are_shown_when_asked_for(show):
    _, out, _ = show(tiny.sums(), "--split=validation", "--rows=100")
    plan = make_plan(core.configure(show.overrides(tiny.sums())))
    assert re.findall(r"^rows\.jsonl:\d+$", out, re.MULTILINE) == list(stages.read(plan).validation.origins)


def test_neither_weights_nor_what_lies_beside_them_are_read(show, tmp_path, tiny_model):
    shutil.copytree(tiny_model, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    code, out, err = show(tiny.sums(), f"model.path={tmp_path / 'model'}", "--rows=1")
    assert (code, err) == (0, "")
    assert "⟦" in out


def test_bad_rows_are_the_error_that_training_gives(show, capsys):
    from core.cli import command

    rows = [{"prompt": "a", "completion": ""}, {"prompt": "a", "completion": "b"}]
    code, _, err = show(rows)
    assert command(show.overrides(rows)) == code == 2
    assert capsys.readouterr().err == err
    assert "rows.jsonl:1: completion: is empty" in err


def test_nothing_in_a_row_reaches_the_terminal_as_a_command(show):
    _, out, _ = show([{"prompt": "\x1b]0;owned\x07\r\x01\u202e[bold]x[/bold]", "completion": "\x9b31m"}])
    assert not {c for c in out if not c.isprintable()} - {"\n"}
    assert "[bold]x[/bold]" in out
    assert "⟦\\x9b31m<|im_end|>⟧" in out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["data"], "data show"),
        (["data", "shwo"], "did you mean data show?"),
        (["data", "show", "--rwos", "3"], "did you mean --rows?"),
        (["data", "show", "-m"], "[--rows 3]"),
        (["data", "show", "--rows"], "--rows 3"),
        (["data", "show", "--rows", "many"], "--rows 3"),
        (["data", "show", "--rows=0"], "1 or more"),
        (["data", "show", "--split=test"], "--split=train|validation"),
        (["data", "show", "--html", "rows.jsonl"], "--html rows.jsonl.html"),
        (["data", "show", "data=jsnol"], "did you mean data=jsonl?"),
        (["data", "show", "my.jsonl"], "KEY=VALUE"),
        (["dta", "show"], "did you mean data?"),
    ],
)
def test_what_is_typed_wrong_is_two_lines(typed, said, capsys):
    from core.cli import command

    assert command(typed) == 2
    what, fix = capsys.readouterr().err.rstrip("\n").split("\n")
    assert (what[:7], fix[:7]) == ("error: ", "  fix: ")
    assert said in fix


def test_rows_that_are_not_there_and_pages_that_cannot_be_written_are_said(show):
    code, _, err = show([{"prompt": "a", "completion": "b"}], "--split", "validation")
    assert (code, "no rows are held out" in err) == (2, True)
    code, _, err = show([{"prompt": "a", "completion": "b"}], "--html", "nowhere/rows.html")
    assert (code, "cannot write nowhere/rows.html" in err) == (2, True)


@pytest.fixture(scope="module")
def speaking(tiny_model):
    """A byte-level tokenizer, and one that writes spaces as Llama 2's does and drops the first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    words = ["<unk>", "</s>", "▁one", "▁two", "▁", *map(chr, range(32, 127))]
    plain = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Metaspace()
    plain.decoder = decoders.Metaspace()
    return AutoTokenizer.from_pretrained(tiny_model), PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="</s>")


@given(text=st.text(max_size=30), at=st.integers(0, 30))
def test_the_pieces_are_the_text_and_the_ids(speaking, text, at):
    for tokenizer in speaking:
        ids = [*tokenizer(f"one {text} two")["input_ids"], tokenizer.eos_token_id]
        found = list(pieces(Tokens(ids, [1.0] * len(ids)), tokenizer))
        assert "".join(piece.text for piece in found) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert [id for piece in found for id in piece.ids] == ids
        assert [piece.special for piece in found][-1]
        # a weight that begins within a character
        weights = [float(i >= at) for i in range(len(ids))]
        found = list(pieces(Tokens(ids, weights), tokenizer))
        assert [piece.weight for piece in found for _ in piece.ids] == weights


def test_help_mentions_it(capsys):
    from core.cli import command

    assert command(["--help"]) == 0
    assert "data show" in capsys.readouterr().out
