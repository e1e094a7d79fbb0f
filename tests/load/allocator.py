"""The allocator of the image, for the servers of long runs."""

from ctypes.util import find_library

IMAGE = "libtcmalloc_minimal.so.4"
"""What deploy/Dockerfile preloads; of Debian's libtcmalloc-minimal4."""


def preloading(library: str) -> dict[str, str]:
    """Returns the variable of the environment with which a process runs on an allocator; none for an empty name.

    Args:
        library: File name, with its version.

    Raises:
        SystemExit: It is not installed.
    """
    if not library:
        return {}
    name = library.removeprefix("lib").partition(".so")[0]
    if find_library(name) != library:
        raise SystemExit(f"{library} is not installed; of Debian's packages libtcmalloc-minimal4 has the image's")
    return {"LD_PRELOAD": library}
