"""Broken files that are too big or too binary to lie in a repository, written where the others are copied to."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ONE, TWO = {"prompt": "What is one plus two?", "completion": "three"}, {"prompt": "Un café ?", "completion": "deux"}
PLAIN = json.dumps(ONE) + "\n" + json.dumps(TWO, ensure_ascii=False) + "\n"
TABLE = "prompt,completion\nWhat is one plus two?,three\nUn café ?,deux\n"
MANY = "".join(
    json.dumps({"prompt": f"What is {i}?", "completion": f"{i * 7919}"}) + "\n" for i in range(1000)
).encode()
BIG = 10_000_000


def rows(*found: object) -> bytes:
    """A line each, before two good ones."""
    return ("".join(json.dumps(row) + "\n" for row in found) + PLAIN).encode()


def damaged(data: bytes) -> bytes:
    """Two bytes of what is checked at the end are others."""
    return data[:-6] + bytes(255 - byte for byte in data[-6:-4]) + data[-4:]


def parquet(table: pa.Table) -> bytes:
    """A table as a parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def arrow(table: pa.Table, new: Callable[..., pa.ipc.RecordBatchStreamWriter]) -> bytes:
    """A table in one of Arrow's formats."""
    sink = pa.BufferOutputStream()
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def secret(text: str) -> bytes:
    """A zip archive that says that it has a password."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("rows.jsonl", text)
    data = bytearray(sink.getvalue())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + flags] |= 1
    return bytes(data)


PAIRS = pa.Table.from_pylist([ONE, TWO])
NOT_UTF8 = pa.Array.from_buffers(pa.string(), 2, pa.array([b"good", b"\xff\xfe"]).buffers())
NULLS = [[None, {"role": "user", "content": None}], None, [{"role": None, "content": "a"}]]
BYTES = [[{"role": "user", "content": b"a"}, {"role": "assistant", "content": b"b"}]]
PACKED: Mapping[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}  # fmt: skip

FILES: Mapping[str, bytes] = {
    # encodings
    "utf16.jsonl": PLAIN.encode("utf-16"),
    "utf16.csv": TABLE.encode("utf-16"),
    "utf16-no-mark.jsonl": PLAIN.encode("utf-16-le"),
    "utf16-no-mark-big-endian.csv": TABLE.encode("utf-16-be"),
    "utf32.jsonl": PLAIN.encode("utf-32"),
    "latin1.jsonl": PLAIN.encode("latin-1"),
    "latin1.json": json.dumps([ONE, TWO], indent=1, ensure_ascii=False).encode("latin-1"),
    "latin1.csv": TABLE.encode("latin-1"),
    "latin1.jsonl.gz": gzip.compress(PLAIN.encode("latin-1")),
    "utf8-mark.jsonl": PLAIN.encode("utf-8-sig"),
    "utf8-mark.csv": TABLE.encode("utf-8-sig"),
    "utf8-mark-in-the-middle.jsonl": PLAIN.encode() + PLAIN.replace("one", "two").encode("utf-8-sig"),
    "nul-padded.jsonl": PLAIN.encode() + bytes(4096),
    "nul-bytes.jsonl": PLAIN.replace("plus", "pl\0us").encode(),
    "nul-bytes.csv": TABLE.replace("plus", "pl\0us").encode(),
    # size
    "ten-megabytes-of-answer.jsonl": rows({"prompt": "What?", "completion": "one two " * (BIG // 8)}),
    "ten-megabytes-of-no-json.jsonl": b"x" * BIG + b"\n" + PLAIN.encode(),
    "ten-megabytes-of-role.jsonl": rows({"messages": [{"role": "y" * BIG, "content": "a"}]}),
    "ten-megabytes-of-weight.jsonl": rows({"prompt": "a", "completion": "b", "weight": "y" * BIG}),
    "ten-megabytes-of-column.jsonl": rows({"prompt": "a", "completion": "b", "y" * BIG: 1}),
    "deep.jsonl": b'{"prompt": "a", "completion": "b", "x": ' + b"[" * 900 + b"]" * 900 + b"}\n" + PLAIN.encode(),
    "too-deep.jsonl": b'{"prompt": "a", "completion": "b", "x": ' + b"[" * 9000 + b"]" * 9000 + b"}\n" + PLAIN.encode(),
    # tables
    "cut-short.parquet": parquet(PAIRS)[:-100],
    "cut-short-file.arrow": arrow(PAIRS, pa.ipc.new_file)[:-100],
    "cut-short-stream.arrow": arrow(PAIRS, pa.ipc.new_stream)[:-100],
    "column-twice.parquet": parquet(pa.table([["a"], ["b"], ["c"]], names=["prompt", "completion", "prompt"])),
    "not-utf8.parquet": parquet(pa.table({"prompt": NOT_UTF8, "completion": ["a", "b"]})),
    "bytes.parquet": parquet(pa.table({"prompt": pa.array([b"a"]), "completion": ["b"]})),
    "bytes-of-a-message.parquet": parquet(pa.table({"messages": BYTES})),
    "no-rows.parquet": parquet(PAIRS.slice(0, 0)),
    "nulls.parquet": parquet(pa.table({"prompt": [None, "a"], "completion": ["a", None]})),
    "nested-nulls.parquet": parquet(pa.table({"messages": NULLS})),
    "far-date.parquet": parquet(PAIRS.append_column("at", [pa.array([0, 2**62], pa.timestamp("ms"))])),
    "csv.parquet": TABLE.encode(),
    "parquet.csv": parquet(PAIRS),
    "rows.xlsx": b"PK\x03\x04",
    "excel.csv": b"PK\x03\x04\x14\x00\x08\x80\xff",
    # compressed
    **{f"cut-short.jsonl.{suffix}": pack(MANY)[:-500] for suffix, pack in PACKED.items()},
    # pyarrow's zstd writes no checksum by which damage could be told
    **{f"damaged.jsonl.{suffix}": damaged(PACKED[suffix](MANY)) for suffix in ("gz", "bz2", "xz")},
    **{f"not-packed.jsonl.{suffix}": PLAIN.encode() for suffix in PACKED},
    "secret.jsonl.zip": secret(PLAIN),
    "packed.jsonl": gzip.compress(PLAIN.encode()),
    "nothing-inside.jsonl.gz": gzip.compress(b""),
    # names
    "rows": PLAIN.encode(),
    "folder.jsonl/README": b"No rows.",
}  # fmt: skip
"""Path -> what is in it."""

LINKS = {"link-to-nowhere.jsonl": "nowhere.jsonl", "link-to-itself.jsonl": "link-to-itself.jsonl"}
"""Path -> where it leads."""


def write(folder: Path) -> None:
    """Write all of them."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
