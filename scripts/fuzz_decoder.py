"""Decodes many mutated image files in a process of its own, and fails if it crashes, hangs, or takes much memory."""

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Runs the command and returns its exit status."""
    from tests.property.decoding import decode_many

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="number of files (default %(default)d)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations (default %(default)d)")
    parser.add_argument(
        "--faults", type=Path, default=Path("fuzz"), help="folder for what failed (default %(default)s)"
    )
    parsed = parser.parse_args()
    parsed.faults.mkdir(exist_ok=True, parents=True)
    verdict = decode_many(parsed.files, parsed.seed, parsed.faults / "image")
    print(verdict.said)
    if verdict.status:
        print(f"status {verdict.status}; the last file: {parsed.faults / 'image'}")
    return 1 if verdict.status else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
