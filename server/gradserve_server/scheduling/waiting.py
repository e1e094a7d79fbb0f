"""How the threads of this process wait for each other.

Callers, decoding and rendering share the processors with passes. Left alone, OpenMP's threads keep theirs busy while
they wait for the next operation, and Python's interpreter goes on with a thread for five milliseconds while another,
which may have a pass to go on with, waits for it.
"""

import os
import sys

SPIN_COUNT = 1000
"""Looks that an OpenMP thread takes for its next work before it sleeps: as many as the pause between two operations."""
SWITCH_SECONDS = 1e-4
"""After which a thread gives the interpreter to one that waits for it."""


def wait_briefly() -> None:
    """Makes threads that wait leave the processor, and those that compute the interpreter, soon.

    To be called before torch is imported, which reads the first. What an operator has set stays.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
    sys.setswitchinterval(SWITCH_SECONDS)
