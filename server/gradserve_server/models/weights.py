"""Files of weights, read once and without running anything that they say.

A file is read into memory once: what is hashed is what is loaded, whatever happens to the file meanwhile.
"""

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from gradserve_server.models.failure import ModelLoadError, one_line

PICKLED = (".pth", ".pt")
"""Files that PyTorch pickles: read with `weights_only`, and only when pinned."""

_MAGIC = (b"PK", b"\x80")
"""How they begin: as an archive, or in PyTorch's old format."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema", "net", "network")
"""Where training scripts keep the state in a checkpoint."""


def read_pinned(path: Path, sha256: str) -> tuple[bytes, str]:
    """Returns the contents of a file and their SHA-256 in hexadecimal.

    Raises:
        ModelLoadError: There is no such file, or its SHA-256 is not the one expected, if one is.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelLoadError(f"weights {path.name}: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and digest != sha256.lower():
        raise ModelLoadError(f"{path.name} has SHA-256 {digest}, not the {sha256} that is pinned")
    return data, digest


def parse_state(data: bytes, name: str) -> dict[str, Tensor]:
    """Returns the state in the contents of a file called `name`.

    Raises:
        ModelLoadError: They are damaged, or no state.
    """
    if name.endswith(PICKLED):
        return parse_pickled(data, name)
    try:
        return load_safetensors(data)
    except (SafetensorError, json.JSONDecodeError, KeyError, ValueError) as error:
        pickled = "it is a pickle: run gradserve-server convert-weights"
        advice = pickled if data.startswith(_MAGIC) else "is the copy complete?"
        raise ModelLoadError(f"{name} is not a safetensors file ({one_line(error)}); {advice}") from error


def parse_pickled(data: bytes, name: str) -> dict[str, Tensor]:
    """Returns the state in a file that `torch.save` made. Only tensors and plain containers are made of it.

    Raises:
        ModelLoadError: It holds anything else, is damaged, is of another kind, or is a TorchScript program.
    """
    if data and not data.startswith(_MAGIC):
        raise ModelLoadError(f"{name} is no file that torch.save made")
    if zipfile.is_zipfile(BytesIO(data)):
        entries = zipfile.ZipFile(BytesIO(data)).namelist()
        if any(entry.endswith("/constants.pkl") for entry in entries):
            raise ModelLoadError(f"{name} is a TorchScript program, which is never run: save the state_dict, or export")
    try:
        found = torch.load(BytesIO(data), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise ModelLoadError(
            f"{name} holds more than tensors and was not read further: save the state_dict alone ({_cause(error)})"
        ) from error
    except (EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ModelLoadError(f"{name} is damaged ({one_line(error)}); is the copy complete?") from error
    return state_within(found, name)


def _cause(error: Exception) -> str:
    # torch's message is advice of many lines, and the advice is to trust the file.
    lines = [line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line]
    return one_line(lines[0] if lines else "not a pickle of tensors", 160)


def state_within(found: Any, name: str) -> dict[str, Tensor]:
    """Returns the state in a checkpoint: itself, or under one of the usual keys, without the prefix of DataParallel.

    Raises:
        ModelLoadError: There is none.
    """
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelLoadError(f"{name} holds no state_dict, neither at its top nor as {', '.join(_WRAPPERS)}")
    prefix = "module." if all(str(entry).startswith("module.") for entry in found) else ""
    return {str(entry).removeprefix(prefix): value for entry, value in found.items()}


def fill(module: nn.Module, state: Mapping[str, Tensor], name: str, architecture: str) -> None:
    """Puts a state into a network.

    Raises:
        ModelLoadError: Entries are missing, unknown, of another shape, or of a type that no network computes with.
    """
    if architecture.startswith("torchvision:densenet"):
        # torchvision's files are of an older writing of it, in which modules had names with a dot.
        state = {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key): state[key] for key in state}
    expected = module.state_dict()
    missing = [entry for entry in expected if entry not in state and not entry.endswith("num_batches_tracked")]
    unknown = [entry for entry in state if entry not in expected]
    if missing or unknown:
        lacks = f"lacks {len(missing)} entries of it, for example {missing[0]}" if missing else ""
        has = f"has {len(unknown)} that it has not, for example {unknown[0]}" if unknown else ""
        raise ModelLoadError(
            f"{name} does not fit {architecture}: it {', and '.join(filter(None, (lacks, has)))}; "
            "is it the architecture that was trained?"
        )
    for entry, wanted in expected.items():
        value = state.get(entry, wanted)
        if value.shape != wanted.shape:
            same = value.shape[1:] == wanted.shape[1:]
            classes = "; is class_count right, or, without it, the number of labels?" if same else ""
            raise ModelLoadError(
                f"{name} does not fit {architecture}: {entry} is {list(value.shape)}, not {list(wanted.shape)}{classes}"
            )
        if value.is_floating_point() != wanted.is_floating_point() or value.is_quantized:
            raise ModelLoadError(
                f"{name}: {entry} is {value.dtype}, not {wanted.dtype}: quantised weights are not served"
            )
    module.load_state_dict(dict(state), strict=False)
