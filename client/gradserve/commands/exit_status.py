"""What a command ends with."""

from collections.abc import Collection

from gradserve.errors import DeadlineExceeded, Overloaded, Unavailable

FAILED, WRONG, LATER, INTERRUPTED = 1, 2, 3, 130

EXIT_STATUS = (
    "Exit status: 0 done; 1 a call, or one of its images, failed; 2 the command line is wrong; 3 no server answered, "
    "or none had the time, and nothing else failed: try again later; 130 interrupted."
)


def status_of(errors: Collection[Exception]) -> int:
    """Returns the status for what went wrong, if anything did."""
    if all(isinstance(error, (Unavailable, Overloaded, DeadlineExceeded)) for error in errors):
        return LATER if errors else 0
    return FAILED
