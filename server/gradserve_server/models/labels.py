"""Class labels."""

from pathlib import Path

from torchvision.models import ResNet18_Weights


def imagenet_labels() -> tuple[str, ...]:
    """Returns the 1000 ImageNet-1k labels by class index, as torchvision ships them."""
    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def read_labels(path: Path) -> tuple[str, ...]:
    """Returns the labels in a UTF-8 file, one a line, by class index."""
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
