"""Class labels."""

from pathlib import Path

from torchvision.models import ResNet18_Weights

from gradserve_server.models.failure import ModelLoadError, one_line


def imagenet_labels() -> tuple[str, ...]:
    """Returns the 1000 ImageNet-1k labels by class index, as torchvision ships them."""
    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def read_labels(path: Path) -> tuple[str, ...]:
    """Returns the labels in a UTF-8 file, with or without a byte-order mark, one a line, by class index.

    Raises:
        ModelLoadError: There is no such file, or it is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelLoadError(f"labels {path.name}: {one_line(reason)}") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())
