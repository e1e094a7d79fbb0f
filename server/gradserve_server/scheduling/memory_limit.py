"""How much memory the process may have."""

import os
from pathlib import Path

_OF_CONTAINER = ("memory.max", "memory/memory.limit_in_bytes")
"""Files of control groups, of version 2 and of version 1, as a container sees its own."""


def memory_limit(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns the machine's memory in bytes, or the container's where that is less.

    Args:
        groups: Where control groups are mounted.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _OF_CONTAINER:
        try:
            said = (groups / name).read_text()
        except OSError:
            continue
        if said.strip().isdigit():
            return min(machine, int(said))
    return machine
