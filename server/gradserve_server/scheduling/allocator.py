"""Keeping freed memory.

glibc gives the large tensors of each pass back to the kernel and faults them in again for the next: up to nine tenths
of the time of a pass. With these settings the process keeps what it has used, but for what protobuf gives back: after
each ten thousand blocks that it frees it calls `malloc_trim`, which holds all threads for up to a tenth of a second.
Where the process runs on tcmalloc, as in the container image, nothing is given back, and this finds nothing to do; nor
on jemalloc, whose settings are its own.
"""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> str:
    """Makes the allocator keep freed memory and returns what is in force, for the start-up log.

    To be called before threads start: an arena that a thread already has stays.
    """
    preloaded = os.environ.get("LD_PRELOAD", "")
    for name in ("jemalloc", "tcmalloc"):
        if name in preloaded:
            return name
    if sys.platform != "linux":
        return "system"
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return "system"
    settings = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_TOP_PAD: 64 << 20}
    accepted = [bool(mallopt(option, value)) for option, value in settings.items()]
    return "glibc, freed memory kept" if all(accepted) else "glibc"
