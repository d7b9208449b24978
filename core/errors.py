"""The two errors that are the user's to mend; anything else that is raised is a bug of ours."""

ERROR = "error: "
"""What the first line of a ``UserError`` starts with, by which a process that started another knows it."""


class UserError(Exception):
    """What is wrong and what to type instead, printed as two lines with exit code 2.

    Attributes:
        what: One sentence, lower case, that names the option, file or part.
        fix: Something to paste or do.

    Example:
        >>> print(UserError("method.rnak: lora has no such option", "did you mean method.rank?"))
        error: method.rnak: lora has no such option
          fix: did you mean method.rank?
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{ERROR}{self.what}\n  fix: {self.fix}"


def shortened(text: str, longest: int = 300) -> str:
    """Text that may quote what stands in a file, which may be megabytes.

    Example:
        >>> shortened("a" * 1000, 3)
        'aaa...'
    """
    return text if len(text) <= longest else text[:longest] + "..."


class RowError(Exception):
    """What is wrong with one row of data; the core adds file and line, counts, and stops or skips.

    Raised by ``Objective.encode`` and yielded, not raised, by ``DataSource.rows``.

    Attributes:
        field: The column it is about, ``""`` when it is the whole row.
        what: Half a sentence, such as ``"missing"`` or ``"is not text"``.

    Example:
        >>> print(RowError("completion", "missing"))
        completion: missing
    """

    def __init__(self, field: str, what: str) -> None:
        super().__init__(field, what)
        self.field = shortened(field)
        self.what = shortened(what)

    def __str__(self) -> str:
        return f"{self.field}: {self.what}" if self.field else self.what


class Interrupted(KeyboardInterrupt):
    """A signal ended the run; the exit code is 128 plus its number.

    Attributes:
        signal: Its number, such as ``signal.SIGTERM``.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
