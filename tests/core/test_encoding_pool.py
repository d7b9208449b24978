"""Rows that several processes encode are those that one encodes, whatever program starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PARTS = """
import multiprocessing, os
from core.api import Objective, RowError


class Here(Objective):
    columns = frozenset({"number"})

    def encode(self, row, tokenizer):
        if row["number"] % 7 == 3:
            raise RowError("number", "is unlucky")
        return {"number": row["number"], "process": os.getpid()}

    def loss(self, model, batch):
        raise NotImplementedError


def made():
    assert multiprocessing.parent_process() is None, "it does not travel"
    return AtHome()


class AtHome(Here):
    def __reduce__(self):
        return made, ()
"""

PROGRAM = """
import sys
import parts
from transformers import AutoTokenizer
from core import encoding_pool
from core.encoding import Encoder, Limits

print("begins", flush=True)  # there is no `if __name__ == "__main__"`: it would be printed by each process
encoding_pool.WORTH_PROCESSES, encoding_pool.CHUNK = 20, 3
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
for kind in (parts.Here, parts.AtHome):
    encoder = Encoder(kind(), tokenizer, Limits(max_length=8, vocabulary=1000, must_learn=False, split=False))
    rows = ((i, {"number": i}) for i in range(40))
    for chunk in encoding_pool.chunks(encoder, rows, 40):
        found = chunk.batch.to_pydict()
        print("chunk", kind.__name__, found, [(row, what) for row, _, what, _ in chunk.bad], flush=True)
"""


def test_several_processes_encode_what_one_does_and_do_not_run_the_program_again(tmp_path: Path, tiny_model: Path):
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "program.py", str(tiny_model)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines.count("begins") == 1
    chunks = {name: [line for line in lines if line.startswith(f"chunk {name} ")] for name in ("Here", "AtHome")}
    assert len(chunks["Here"]) == len(chunks["AtHome"]) == 14  # of three rows each, the last of one
    for name, seen in chunks.items():
        numbers = [float(n) for line in seen for n in re.search(r"'number': \[([^]]*)]", line)[1].split(",")]
        bad = [int(n) for line in seen for n in re.findall(r"\((\d+), 'is unlucky'\)", line)]
        assert numbers == [i for i in range(40) if i % 7 != 3], name
        assert bad == [i for i in range(40) if i % 7 == 3], name
    processes = {name: {p for line in seen for p in _processes(line)} for name, seen in chunks.items()}
    assert len(processes["AtHome"]) == 1, "a part that does not travel is encoded with here"
    assert not processes["AtHome"] & processes["Here"] or len(os.sched_getaffinity(0)) == 1


def _processes(line: str) -> list[str]:
    return re.search(r"'process': \[([^]]*)]", line)[1].split(", ")
