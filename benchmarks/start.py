"""How long the commands take that need no torch.

Run: python benchmarks/start.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS = 7
COMMANDS = {"--help": 0, "--cfg job +method=lora": 0, "method=lorra": 2}


def main() -> None:
    for typed, code in COMMANDS.items():
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            done = subprocess.run(  # noqa: S603  # our own words
                [sys.executable, "-m", "core", *typed.split()], capture_output=True, check=False
            )
            seconds.append(time.perf_counter() - start)
            assert done.returncode == code, done.stderr
        print(f"python -m core {typed:24} {statistics.median(seconds):.2f} s (median of {REPEATS})")


if __name__ == "__main__":
    main()
