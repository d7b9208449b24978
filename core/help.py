"""``--help``: the parts that are here, whoever ships them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from core.choices import NO_PART, default_choices
from core.discovery import discover
from core.hydra_app import CONF
from core.overrides import VALUES
from core.registry import AXES, Registry

HEAD = """hooktune: fine-tune language models with parts that any installed package can offer

usage: python -m core [VERB] [AXIS=NAME ...] [KEY=VALUE ...]        (also: hooktune ...)

  train                  fine-tune; no verb means this
  plan                   what a run will do and need, before any weight is read; also: --json
  resume RUN             go on with a run that was stopped
  sweep resume SWEEP     run what of a sweep is missing or failed
  compare RUN RUN        what they were made of and measured that differs
  generate RUN "PROMPT"  ask the base and the tuned model, side by side
  data show              the first rows as they are trained on; also: --rows 3, --split validation, --html FILE
  profile                a few steps under torch's profiler: a table of operators and a trace; also: --steps 3
  plugins list           the parts that are here; also: show NAME, new KIND NAME, check NAME|--all, doctor

  -m                     a run for each combination:  -m method=lora,full seed=0,1
  --cfg job              print the whole config
  --help, --version

What there is to choose; * is chosen unless you say otherwise, [the plugin] it comes from stands behind it.
"""

TAIL = """
examples
  python -m core +method=lora +quant=int4
  python -m core method=lora data=jsonl data.train=my.jsonl model.path=Qwen/Qwen3-0.6B
  python -m core -m method=lora quant=none,int4
"""


def show_help() -> int:
    """Print usage and every part with its summary and who ships it: a folder of ours, or another distribution."""
    registry = discover()
    print(HEAD)
    print("\n".join([*_axes(registry), *_values(registry)]))
    print(TAIL, end="")
    for line in registry.warnings({}):
        print(f"\nwarning: {line}", end="")
    if registry.broken or registry.notes:
        print()
    return 0


def _axes(registry: Registry) -> Iterator[str]:
    usual = default_choices()
    for axis in AXES:
        yield f"{axis}="
        for name in NO_PART.get(axis, ()):
            yield _line(name, summary_of(CONF / axis / f"{name}.yaml"), "", name == usual[axis])
        for offer in sorted(
            (o for o in registry.offers if o.axis == axis), key=lambda o: (_foreign(o.distribution), o.part.name)
        ):
            origin = f"{offer.distribution} {offer.version}" if _foreign(offer.distribution) else offer.plugin
            yield _line(offer.part.name, offer.part.summary, origin, offer.part.name == usual[axis])


def _values(registry: Registry) -> Iterator[str]:
    usual = default_choices()
    for axis in VALUES:
        yield f"{axis}="
        for folder in [CONF, *(d.path for d in registry.conf_dirs)]:
            for file in sorted((folder / axis).glob("*.yaml")):
                yield _line(file.stem, summary_of(file), "", file.stem == usual[axis])


def _line(name: str, summary: str, origin: str, usual: bool) -> str:
    return f"  {name + (' *' if usual else ''):<16}{summary}" + (f"  [{origin}]" if origin else "")


def _foreign(distribution: str) -> bool:
    return distribution != "hooktune"


def summary_of(file: Path) -> str:
    """The first comment of a yaml that is no Hydra directive."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""
