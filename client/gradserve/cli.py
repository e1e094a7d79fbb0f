"""The command `gradserve`: what starts it, with or without the packages that it needs."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Returns:
        The exit status: 0 done; 1 a call, or one of its images, failed; 2 the command line is wrong; 3 no server
        answered, or none had the time: try again later; 130 interrupted.
    """
    try:
        from gradserve.commands import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        print("gradserve: the command line needs two more packages: pip install 'gradserve[cli]'", file=sys.stderr)
        return 2
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
