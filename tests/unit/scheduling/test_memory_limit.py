"""How much memory the process may have, as control groups say."""

import os
from pathlib import Path

import pytest

from gradserve_server.scheduling.memory_limit import memory_limit

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("file", "said", "limit"),
    [
        ("memory.max", "1048576\n", 1048576),
        ("memory.max", "max\n", MACHINE),
        ("memory/memory.limit_in_bytes", "2097152\n", 2097152),
        # Of a group without a limit, in version 1.
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", MACHINE),
        ("none", "", MACHINE),
    ],
)
def test_the_least_of_machine_and_container(tmp_path: Path, file: str, said: str, limit: int) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(said)
    assert memory_limit(tmp_path) == limit
