from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import subprocess
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import RowError, UserError
from core.rows import read_rows
from plugins.jsonl.options import FilesOptions
from plugins.jsonl.source import Files
from plugins.sft.objective import SFT

COMMON = yaml.safe_load((Path(__file__).parents[2] / "conf" / "data" / "common.yaml").read_text())
ONE, TWO = {"prompt": "a", "completion": "é"}, {"prompt": "b", "completion": "d\ne"}


def source(train, validation=None, mix=None) -> Files:
    return Files(
        FilesOptions(name="jsonl", train=str(train), validation=validation and str(validation), mix=mix or {}, **COMMON)
    )


def read(path):
    files = source(path)
    rows = list(files.rows("train"))
    return rows, [files.origin("train", i).removeprefix(f"{path}:") for i in range(len(rows))]


def write(path, text: str, newline: str = "\n", bom: bool = False):
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.replace("\n", newline).encode())
    return path


def lines(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [False, True])
@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("rows.jsonl", lines(ONE) + "\n  \n" + lines(TWO), ["1", "4"]),
        ("rows.JSONL", lines(ONE, TWO).rstrip("\n"), ["1", "2"]),
        ("rows.json", json.dumps([ONE, TWO], indent=1), ["2", "6"]),
        ("disguised.json", lines(ONE, TWO), ["1", "2"]),
    ],
)
def test_json_is_read_whatever_its_line_ends(tmp_path, name, text, where, newline, bom):
    assert read(write(tmp_path / name, text, newline, bom)) == ([ONE, TWO], where)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [False, True])
def test_a_csv_row_stands_where_it_starts_even_after_quoted_line_ends(tmp_path, newline, bom):
    text = 'prompt,completion\nb,"d\ne"\n\na,é\n'
    assert read(write(tmp_path / "rows.csv", text, newline, bom)) == ([TWO, ONE], ["2", "5"])


def test_a_csv_cell_keeps_characters_that_python_takes_for_line_ends(tmp_path):
    path = write(tmp_path / "rows.csv", "prompt,completion\na\u2028b\x0bc,d\x85\n")
    assert read(path) == ([{"prompt": "a\u2028b\x0bc", "completion": "d\x85"}], ["2"])


def test_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([ONE, TWO]), tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet") == ([ONE, TWO], ["1", "2"])


@pytest.mark.parametrize(
    ("name", "text", "where", "what"),
    [
        ("rows.jsonl", lines(ONE) + "{not json}\n" + lines(TWO), "2", "not JSON: Expecting property name"),
        ("rows.jsonl", lines(ONE) + "[1, 2]\n" + lines(TWO), "2", "is not an object"),
        ("rows.jsonl", lines(ONE) + "null\n" + lines(TWO), "2", "is not an object"),
        ("rows.json", f"[{json.dumps(ONE)},\n7,\n{json.dumps(TWO)}]", "2", "is not an object"),
        ("rows.csv", 'prompt,completion\na,é\nb\nb,"d\ne"\n', "3", "has 1 column, the header has 2"),
        ("rows.csv", 'prompt,completion\na,é\n"b"x,c\nb,"d\ne"\n', "3", "not CSV"),
    ],
)
def test_a_bad_row_stays_in_its_place(tmp_path, name, text, where, what):
    rows, origins = read(write(tmp_path / name, text))
    assert (rows[0], rows[2], origins[1]) == (ONE, TWO, where)
    assert isinstance(rows[1], RowError)
    assert rows[1].what.startswith(what)


@pytest.mark.parametrize(
    ("name", "text", "where", "what"),
    [
        ("rows.json", f"[{json.dumps(ONE)},\n", "2", "the array does not end; nothing after it is read"),
        ("rows.json", f"[{json.dumps(ONE)},\n{{oops}}]", "2", "nothing after it is read"),
        ("rows.json", f"[{json.dumps(ONE)}]\n[]", "1", "the file goes on after its array"),
        ("rows.csv", 'prompt,completion\na,é\nb,"never closed\n', "3", "a quote is opened and never closed"),
    ],
)
def test_a_file_that_breaks_off_is_not_taken_for_a_whole_one(tmp_path, name, text, where, what):
    rows, origins = read(write(tmp_path / name, text))
    assert rows[0] == ONE
    assert isinstance(rows[-1], RowError)
    assert what in rows[-1].what
    assert origins[-1] == where


def test_the_near_name_is_suggested(tmp_path):
    write(tmp_path / "train.jsonl", lines(ONE))
    with pytest.raises(UserError, match=r"tain\.jsonl does not exist") as caught:
        source(tmp_path / "tain.jsonl").rows("train")
    assert caught.value.fix == f"did you mean {tmp_path / 'train.jsonl'}?"


def test_without_a_near_name_the_kinds_are_named(tmp_path):
    with pytest.raises(UserError) as caught:
        source(tmp_path / "no" / "such.jsonl").rows("train")
    assert ".parquet" in caught.value.fix


def test_what_looks_like_a_hub_id_is_pointed_at_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="does not exist") as caught:
        source("acme/sums").rows("train")
    assert caught.value.fix.endswith("data=hub data.path=acme/sums")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("rows.jsonl", b"", "is empty"),
        ("rows.jsonl", b"\n \n", "holds no row"),
        ("rows.json", b"[]", "holds no row"),
        ("rows.csv", b"prompt,completion\n", "holds no row"),
        ("rows.csv", b"prompt,prompt\na,b\n", "two columns are called 'prompt'"),
        ("rows.jsonl", b'{"prompt": "a"}\n{"prompt": "\xe9"}\n', "rows.jsonl:2: is not UTF-8"),
        ("rows.parquet", b"PAR1 but no more", "no parquet file"),
        ("rows.xlsx", b"PK", "suffix is not known"),
        ("rows", b"{}", "suffix is not known"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(source(tmp_path / name).rows("train"))
    assert what in caught.value.what
    assert str(tmp_path / name) in caught.value.what


def test_a_folder_is_all_its_files(tmp_path):
    write(tmp_path / "b.jsonl", lines(TWO))
    write(tmp_path / "a.json", json.dumps([ONE]))
    write(tmp_path / "notes.md", "no rows")
    files = source(tmp_path)
    assert list(files.rows("train")) == [ONE, TWO]
    assert files.origin("train", 1) == f"{tmp_path / 'b.jsonl'}:1"


@pytest.mark.parametrize("indent", [None, 1])
def test_rows_in_a_list_inside_an_object_are_told_from_a_row_with_a_list(tmp_path, indent):
    wrapped = write(tmp_path / "rows.json", json.dumps({"version": "1", "data": [ONE, TWO]}, indent=indent))
    with pytest.raises(UserError, match="its rows seem to be the list 'data'") as caught:
        read(wrapped)
    assert caught.value.fix.startswith("jq -c '.data[]' ")
    row = {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}], "tags": []}
    assert read(write(tmp_path / "row.json", json.dumps(row)))[0] == [row]


def test_an_array_in_a_jsonl_is_to_be_named_json(tmp_path):
    with pytest.raises(UserError, match="is an array") as caught:
        read(write(tmp_path / "rows.jsonl", json.dumps([ONE, TWO])))
    assert caught.value.fix.startswith("name it rows.json, or: jq -c '.[]' ")
    (tmp_path / "rows.jsonl").rename(tmp_path / "rows.json")
    assert read(tmp_path / "rows.json")[0] == [ONE, TWO]


def test_a_folder_without_rows_is_refused(tmp_path):
    write(tmp_path / "notes.md", "no rows")
    with pytest.raises(UserError, match="holds no file with rows"):
        source(tmp_path).rows("train")


def written(file: Path, rows) -> None:
    """The same rows, in the kind of file that its suffix names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table, kind = pa.Table.from_pylist(rows), file.suffix
    if kind == ".parquet":
        pq.write_table(table, file)
    elif kind == ".arrow":
        with pa.ipc.new_file(str(file), table.schema) as writer:
            writer.write_table(table)
    elif kind == ".txt":
        file.write_text("".join(f"{row['text']}\n" for row in rows))
    elif kind in (".csv", ".tsv"):
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [*rows[0]], delimiter="\t" if kind == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text(json.dumps(rows, indent=2) if kind == ".json" else lines(*rows))


def zstd(content: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def zipped(*files: tuple[str, bytes]) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return found.getvalue()


PACKED = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("packed", ["", *PACKED, ".zip"])
@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt"])
def test_the_same_rows_come_out_of_every_container(tmp_path, kind, packed):
    rows = [{"text": f"é {i}"} for i in range(3)] if kind == ".txt" else [ONE, TWO, ONE]
    file = tmp_path / f"rows{kind}"
    written(file, rows)
    assert read(file)[0] == rows
    if packed == ".zip":
        (tmp_path / "any.zip").write_bytes(zipped((file.name, file.read_bytes()), ("__MACOSX/._rows", b"x")))
        assert read(tmp_path / "any.zip") == (rows, read(file)[1])
    elif packed:
        other = tmp_path / f"rows{kind}{packed}"
        other.write_bytes(PACKED[packed](file.read_bytes()))
        assert read(other) == (rows, read(file)[1])
    inside = tmp_path / "folder"
    inside.mkdir()
    for i, path in enumerate(path for path in tmp_path.iterdir() if path.is_file()):
        (inside / f"{i}{''.join(path.suffixes)}").write_bytes(path.read_bytes())
    assert read(inside)[0] == rows * (2 if packed else 1)


@pytest.mark.parametrize("packed", [*PACKED, ".zip"])
@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda content: b"no archive " + content[:9]])
def test_a_damaged_archive_is_named(tmp_path, packed, damage):
    content = lines(*[{"prompt": f"{i}", "completion": f"{i * i}"} for i in range(2000)]).encode()
    content = zipped(("rows.jsonl", content)) if packed == ".zip" else PACKED[packed](content)
    (tmp_path / f"rows.jsonl{packed}").write_bytes(damage(content))
    with pytest.raises(UserError, match=rf"rows\.jsonl{packed} .*(breaks off|cannot be read|damaged)"):
        read(tmp_path / f"rows.jsonl{packed}")


def test_an_archive_of_several_files_says_how_to_unpack_it(tmp_path):
    file = tmp_path / "my set.zip"
    file.write_bytes(zipped(("a.jsonl", lines(ONE).encode()), ("b.jsonl", lines(TWO).encode())))
    with pytest.raises(UserError, match="holds 2 files") as caught:
        read(file)
    assert caught.value.fix == f"unzip -d '{tmp_path}/my set' '{file}', then data.train='{tmp_path}/my set'"


def test_standard_input_is_lines_of_json(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(("\n" + lines(ONE) + "{\n").encode())))
    files = source("-")
    assert files.fingerprint() is None
    rows = list(files.rows("train"))
    assert (rows[0], str(rows[1])[:8]) == (ONE, "not JSON")
    assert [files.origin("train", i) for i in range(2)] == ["stdin:2", "stdin:3"]
    assert next(source("-").rows("train")) == ONE  # a sweep's next job gets it, too


@pytest.mark.parametrize("kind", [".jsonl", ".csv"])
def test_a_large_file_is_read_a_row_at_a_time(tmp_path, monkeypatch, kind):
    """30 MB of rows pass through a few MB of memory into a temporary file."""
    monkeypatch.setattr("core.row_file.IN_MEMORY", 2**20)
    file = tmp_path / f"rows{kind}"
    written(file, [{"prompt": f"{i} " + "word " * 2000, "completion": "yes"} for i in range(3000)])
    assert file.stat().st_size > 30e6
    files = source(file)
    tracemalloc.start()
    train, held = read_rows(files, SFT(None), files.options, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(train.rows), len(held.rows)) == (2850, 150)
    assert {int(row["prompt"].split()[0]) for row in [*train.rows, *held.rows]} == set(range(3000))
    assert peak < 8e6


def test_arrow_in_both_of_its_formats_and_as_datasets_saves_it(tmp_path):
    import pyarrow as pa
    from datasets import Dataset

    table = pa.Table.from_pylist([ONE, TWO])
    for name, new in (("file.arrow", pa.ipc.new_file), ("stream.arrow", pa.ipc.new_stream)):
        with new(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
        assert read(tmp_path / name) == ([ONE, TWO], ["1", "2"])
    Dataset.from_list([ONE, TWO]).save_to_disk(tmp_path / "saved")
    assert list(source(tmp_path / "saved").rows("train")) == [ONE, TWO]


def test_a_line_of_plain_text_is_a_row(tmp_path):
    assert read(write(tmp_path / "rows.txt", "one\n\n two\n")) == ([{"text": "one"}, {"text": " two"}], ["1", "3"])


def test_files_are_mixed_by_how_often_each_is_taken(tmp_path):
    one, two = write(tmp_path / "a.jsonl", lines(ONE)), write(tmp_path / "b.jsonl", lines(TWO, TWO))
    files = source(one, mix={str(two): 0.5})
    assert list(files.rows("train")) == [ONE, TWO, TWO]
    assert [files.share("train", i) for i in range(3)] == [1.0, 0.5, 0.5]


def test_a_file_that_is_mixed_in_is_called_so(tmp_path):
    one = tmp_path / "one.jsonl"
    write(one, lines(ONE))
    with pytest.raises(UserError) as caught:
        list(source(one, mix={str(tmp_path / "two.jsonl"): 1}).rows("train") or ())
    assert caught.value.what == f"data.mix={tmp_path}/two.jsonl does not exist"
    assert caught.value.fix == f"did you mean {one}?"
    (tmp_path / "three.csv").write_text("prompt,completion\n")
    with pytest.raises(UserError, match=r"^error: data\.mix=.*three\.csv holds no row") as caught:
        list(source(one, mix={str(tmp_path / "three.csv"): 1}).rows("train") or ())
    assert caught.value.fix == "data.mix={FILE: 1} with rows in it"


def test_the_first_rows_of_a_mix_would_leave_out_what_is_mixed_in(tmp_path):
    with pytest.raises(UserError, match=r"data\.max_rows takes the first rows, which are none of data\.mix") as caught:
        FilesOptions(name="jsonl", train="a.jsonl", validation=None, mix={"b": 1}, **{**COMMON, "max_rows": 3})
    assert caught.value.fix.startswith("data.max_rows=null")


def test_another_time_of_change_is_another_fingerprint(tmp_path):
    path = write(tmp_path / "a.jsonl", lines(ONE))
    before = source(path).fingerprint()
    assert source(path).fingerprint() == before
    os.utime(path, ns=(1, 1))
    assert source(path).fingerprint() != before


def test_without_train_there_is_nothing_to_do():
    with pytest.raises(UserError, match=r"data\.train is missing"):
        FilesOptions(name="jsonl", train=None, validation=None, mix={}, **COMMON)


def test_validation_is_a_file_of_its_own_or_none(tmp_path):
    train, validation = write(tmp_path / "t.jsonl", lines(ONE)), write(tmp_path / "v.jsonl", "\n" + lines(TWO))
    assert source(train).rows("validation") is None
    files = source(train, validation)
    assert (list(files.rows("train")), list(files.rows("validation"))) == ([ONE], [TWO])
    assert files.origin("validation", 0) == f"{validation}:2"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=5))
def test_any_text_comes_back_from_csv_and_jsonl(tmp_path_factory, pairs):
    rows = [{"prompt": a, "completion": b} for a, b in pairs]
    folder = tmp_path_factory.mktemp("rows")
    (folder / "rows.jsonl").write_bytes("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode("utf-8"))
    assert read(folder / "rows.jsonl")[0] == rows
    text = io.StringIO(newline="")
    csv.DictWriter(text, ["prompt", "completion"], quoting=csv.QUOTE_ALL).writerows([*rows])
    (folder / "rows.csv").write_bytes(b"prompt,completion\n" + text.getvalue().encode("utf-8"))
    ended = [{k: v.replace("\r\n", "\n").replace("\r", "\n") for k, v in row.items()} for row in rows]
    assert read(folder / "rows.csv")[0] == ended


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_is_read_whatever_its_columns_are_separated_by(tmp_path, separator, suffix):
    text = f'prompt{separator}completion\n"b"{separator}"d\ne"\n'
    assert read(write(tmp_path / f"rows{suffix}", text))[0] == [TWO]


def test_json_that_is_nested_too_deeply_is_a_bad_row(tmp_path):
    deep = '{"prompt": ' + "[" * 100_000
    assert "nested too deeply" in str(read(write(tmp_path / "rows.jsonl", lines(ONE) + deep))[0][1])
    assert "nested too deeply" in str(read(write(tmp_path / "rows.json", f"[{json.dumps(ONE)}, {deep}"))[0][1])


def test_a_missing_comma_is_not_read_over(tmp_path):
    rows, origins = read(write(tmp_path / "rows.json", f"[{json.dumps(ONE)}\n{json.dumps(TWO)}]"))
    assert "a comma is missing" in str(rows[1])
    assert origins == ["1", "2"]


def test_rows_in_a_list_within_one_object_are_pointed_at(tmp_path):
    path = write(tmp_path / "my rows.json", json.dumps({"version": 1, "data": [ONE]}, indent=1))
    with pytest.raises(UserError, match="its rows seem to be the list 'data'") as caught:
        list(source(path).rows("train"))
    assert caught.value.fix == f"jq -c '.data[]' '{path}' > 'my rows.jsonl'"


def test_what_excel_calls_unicode_is_named(tmp_path):
    (tmp_path / "rows.csv").write_bytes("prompt,completion\na,b\n".encode("utf-16"))
    with pytest.raises(UserError) as caught:
        list(source(tmp_path / "rows.csv").rows("train"))
    assert "iconv -f UTF-16" in caught.value.fix


CALLS = [
    {"name": "weather", "arguments": {"city": "Oslo", "content": None}},
    {"name": "add", "arguments": {"x": 1, "y": [{"z": 3}]}},
]


def called(arguments: dict) -> dict:
    """A row with a call of a tool, as JSON has it: nothing in it is null but what has to be."""
    name = arguments["name"]
    given = {key: value for key, value in arguments["arguments"].items() if value is not None}
    tool = {
        "type": "function",
        "function": {"name": name, "parameters": {"properties": {key: {"type": "string"} for key in given}}},
    }
    call = {"type": "function", "function": {"name": name, "arguments": given}}
    said = [{"role": "user", "content": name}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    return {"messages": said, "tools": [tool]}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_calls_of_tools_from_a_table_are_those_of_the_json(tmp_path, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [called(call) for call in CALLS]
    table = pa.Table.from_pylist(rows)
    assert any(
        "x" in row["tools"][0]["function"]["parameters"]["properties"] for row in table.to_pylist()[:1]
    )  # filler
    file = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(table, file)
    else:
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    found, _ = read(file)
    assert found == rows


def test_what_of_a_folder_is_not_read_is_said_once(tmp_path, caplog):
    write(tmp_path / "a.jsonl", lines(ONE))
    write(tmp_path / "b.ndjson", lines(TWO))
    assert list(source(tmp_path).rows("train")) == [ONE, TWO]
    assert caplog.text == ""
    (tmp_path / "more").mkdir()
    write(tmp_path / "notes.md", "none")
    files = source(tmp_path)
    files.fingerprint()
    assert list(files.rows("train")) == [ONE, TWO]
    assert [record.message for record in caplog.records] == [f"data.train={tmp_path}: not read: more/, notes.md"]


def test_a_table_that_says_how_it_is_separated_is_read_so(tmp_path):
    file = write(tmp_path / "rows.csv", 'sep=;\nprompt;completion\n"a,b,c,d";é\n', newline="\r\n", bom=True)
    assert read(file) == ([{"prompt": "a,b,c,d", "completion": "é"}], ["3"])


def test_the_advice_for_what_windows_calls_ansi_keeps_its_text(tmp_path):
    text = "prompt,completion\n“tea”,3 €\n"
    (tmp_path / "ansi.csv").write_bytes(text.encode("cp1252"))
    with pytest.raises(UserError, match="is not UTF-8") as caught:
        read(tmp_path / "ansi.csv")
    subprocess.run(["bash", "-c", caught.value.fix], cwd=tmp_path, check=True)
    assert (tmp_path / "utf8.csv").read_text(encoding="utf-8") == text


def test_python_that_was_printed_is_told_from_json(tmp_path):
    (row,) = read(write(tmp_path / "rows.jsonl", "{'prompt': 'a', 'completion': 'b'}\n"))[0]
    assert str(row).endswith("it looks like Python's own form: json.dumps writes JSON")


def test_a_spreadsheet_is_to_be_saved_as_text(tmp_path):
    write(tmp_path / "rows.xlsx", "x")
    with pytest.raises(UserError) as caught:
        source(tmp_path / "rows.xlsx").rows("train")
    assert caught.value.fix == "save it as CSV UTF-8"
