"""``python -m core`` and ``hooktune``."""

import gc
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from core.cli import command

    code = command(sys.argv[1:])
    gc.freeze()  # all that libraries made would be looked through several times before the process ends
    sys.exit(code)


if __name__ == "__main__":
    main()
