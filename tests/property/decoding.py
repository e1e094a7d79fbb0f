"""Decodes many mutated files in a process of its own: what kills it, hangs it or fills its memory is seen from outside.

As a program: `python -m tests.property.decoding COUNT SEED REPRODUCER`. It writes each file to REPRODUCER before it
decodes it, ends itself after `HANG_SECONDS` in one, and says at its end what came of how many.
"""

import faulthandler
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HANG_SECONDS = 20
MAX_PIXELS = 2_000_000
GROWTH_MIB = 64
"""Most that memory may grow: a picture of `MAX_PIXELS` takes 8 MB in Pillow, and a few copies are made on its way."""


@dataclass(frozen=True)
class Verdict:
    """What came of the files.

    Attributes:
        status: Exit status of the process: 0, unless it crashed or hung.
        said: What it said.
    """

    status: int
    said: str


def decode_many(count: int, seed: int, reproducer: Path) -> Verdict:
    """Decodes so many mutated files, and all hostile ones, in a process of its own."""
    command = [sys.executable, "-m", "tests.property.decoding", str(count), str(seed), str(reproducer)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    return Verdict(done.returncode, done.stdout + done.stderr)


def main(count: int, seed_number: int, reproducer: Path) -> int:
    """Runs the program and returns its exit status."""
    from hypothesis import strategies as st
    from tests.property.drawing import draw_many
    from tests.property.messages import mutated
    from tests.property.pictures import files, hostile

    from gradserve_server.errors import InvalidInput
    from gradserve_server.imaging.decode import decode, decode_reduced

    outcomes: Counter[str] = Counter()

    def check(encoded: bytes) -> None:
        reproducer.write_bytes(encoded)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        try:
            pixels = decode(encoded, MAX_PIXELS)
            # What decodes in full decodes at a part of its size.
            reduced = decode_reduced(encoded, MAX_PIXELS, least=1)
            assert reduced.size == (pixels.shape[1], pixels.shape[0])
            assert reduced.pixels.shape[:2] == tuple(-(-length // reduced.factor) for length in pixels.shape[:2])
        except InvalidInput as error:
            outcomes[error.reason] += 1
        else:
            height, width, channels = pixels.shape
            assert channels == 3, pixels.shape
            assert pixels.dtype == np.uint8, pixels.dtype
            assert 0 < height * width <= MAX_PIXELS, pixels.shape
            outcomes["decoded"] += 1
        finally:
            faulthandler.cancel_dump_traceback_later()

    sound = files()
    for encoded in sound.values():
        check(encoded)
    assert outcomes["decoded"] == len(sound), outcomes
    bombs = hostile()
    before = _peak_mib()
    for encoded in bombs.values():
        check(encoded)

    damaged = st.sampled_from(sorted(sound)).flatmap(lambda name: mutated(sound[name]))
    draw_many(damaged, count, seed_number, check)
    growth = _peak_mib() - before
    print(f"{sum(outcomes.values())} files: {dict(outcomes.most_common())}; memory grew by {growth:.0f} MiB")
    if growth > GROWTH_MIB:
        print(f"at most {GROWTH_MIB} MiB were expected")
        return 1
    return 0


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
