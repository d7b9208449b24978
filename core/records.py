"""What a hook yields: a frozen record that names code without importing it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

API = 1
"""The version of the contracts in ``core.contracts``; a part written for another one is refused by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing a run can be built from, known by name and imported only when chosen. The hook says its kind.

    Attributes:
        name: What users type, as in ``+method=lora``: letters, digits, ``-`` and ``_``.
        target: Where the code is, ``"package.module:Class"``, a subclass of the kind's contract. Imported when a run
            needs it and made as ``target(options)``.
        options: Where its options are, in the same form: a frozen keyword-only dataclass without defaults whose module
            imports no torch. Its ``__post_init__`` checks values and raises ``UserError``; options that take any text,
            or any number, are named in a ``free: ClassVar = frozenset({...})``.
        summary: One line for ``--help``.
        source: The paper's arXiv URL where there is one, else documentation.
        needs: Modules that must be importable.
        install: What to type when one of them is missing.
        provides: Capability words this part gives the run.
        requires: Capability words that some chosen part, the model or the device must provide; ``"a|b"`` is either.
        conflicts: Capability words that no chosen part may provide.
        import_first: Modules to import before transformers, peft and trl.
        api: Version of the contracts it was written for.
        patches: Modules it alters for the whole process; such a run gets a process of its own.

    Example:
        >>> Part(name="bitfit", target="acme.bitfit:BitFit", options="acme.options:BitFitOptions", summary="biases").api
        1
    """

    name: str
    target: str
    options: str
    summary: str
    source: str = ""
    needs: tuple[str, ...] = ()
    install: str = ""
    provides: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()
    conflicts: frozenset[str] = frozenset()
    import_first: tuple[str, ...] = ()
    api: int = API
    patches: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Whoever reads records relies on their types.

        Raises:
            TypeError: a value is of another one, or cannot be typed or printed; the plugin is then left out.
        """
        for field in fields(self):
            value, kind = getattr(self, field.name), str(field.type)
            if not _is(value, kind):
                raise TypeError(f"Part.{field.name} is {value!r}, not {kind}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):  # it is typed, and names a file
            raise TypeError(f"Part.name is {self.name!r}: only letters, digits, - and _ can be typed")
        if not self.summary.isprintable():
            raise TypeError(f"Part.summary is {self.summary!r}, not one line to print")


def _is(value: object, kind: str) -> bool:
    """Whether a value is of a type as it is written above.

    Example:
        >>> _is(("json",), "tuple[str, ...]"), _is("json", "tuple[str, ...]"), _is(True, "int")
        (True, False, False)
    """
    if kind.startswith(("tuple", "frozenset")):
        return isinstance(value, tuple if kind.startswith("tuple") else frozenset) and all(
            isinstance(item, str)
            for item in value  # pyright: ignore[reportUnknownVariableType]
        )
    return isinstance(value, str) if kind == "str" else isinstance(value, int) and not isinstance(value, bool)
