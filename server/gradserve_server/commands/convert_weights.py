"""`gradserve-server convert-weights`: make safetensors of a PyTorch checkpoint, once, without running what it says."""

import argparse
import hashlib
import sys
from pathlib import Path

from safetensors.torch import save

from gradserve_server.models.failure import ModelLoadError
from gradserve_server.models.weights import parse_pickled, read_pinned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what to convert."""
    parser.add_argument(
        "checkpoint", type=Path, help="file that torch.save made: a state_dict, or a checkpoint with one"
    )
    parser.add_argument("weights", type=Path, help="file to write, for example NAME/1/weights.safetensors")
    parser.add_argument("--sha256", default="", help="SHA-256 that the checkpoint must have")


def run(arguments: argparse.Namespace) -> int:
    """Converts; returns 1 if the checkpoint is refused."""
    try:
        data, _ = read_pinned(arguments.checkpoint, arguments.sha256)
        state = parse_pickled(data, arguments.checkpoint.name)
        # Entries that share memory are written each for itself: safetensors has no sharing.
        converted = save({entry: value.detach().clone().contiguous() for entry, value in state.items()})
        arguments.weights.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first: who watches the folder never sees half a file.
        partial = arguments.weights.with_suffix(".partial")
        partial.write_bytes(converted)
        partial.replace(arguments.weights)
    except (ModelLoadError, OSError) as error:
        print(f"gradserve-server: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.weights}: {len(state)} entries, {len(converted)} bytes")
    print(f'sha256 = "{hashlib.sha256(converted).hexdigest()}"')
    return 0
