"""Projects of strangers on the path, as if they were installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def on_path(*projects: Path) -> dict[str, str]:
    """An environment in which they are found: each gets the entry points that an installer would write, in itself."""
    for project in projects:
        name = project.name
        info = project / f"{name.replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        package = name.replace("-", "_")
        (info / "entry_points.txt").write_text(f"[hooktune]\n{name.removeprefix('hooktune-')} = {package}\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(p) for p in projects] + sys.path), "COLUMNS": "120"}
