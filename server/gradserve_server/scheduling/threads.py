"""How many threads compute for one, and how soon one lets another have the interpreter."""

import torch

SWITCH_SECONDS = 1e-4
"""After which a thread gives the interpreter to one that waits for it. In Python's own five milliseconds a pass waits
that long for the event loop after each operation, and the event loop for a pass after each message: under a hundred
requests a second the two held each other up until answers took half a minute."""


def use_threads(count: int) -> None:
    """Fixes how many threads compute what this thread asks for.

    Setting is not enough: the first operation of a thread takes the number that the process has by then, which is what
    any other thread set last. Asking for the number counts as one, so it is fixed from here on.
    """
    torch.set_num_threads(count)
    torch.get_num_threads()
