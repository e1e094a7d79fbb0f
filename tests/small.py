"""A server of networks so small that a request takes milliseconds: for what needs many requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save
from tests.repository import network, put
from tests.serving import served

from gradserve_server.app import Server

SIDE = 32
CLASS_COUNT = 4
CATALOGUE = "".join(
    f"""
[[model]]
name = "{name}"
architecture = "timm:{architecture}"
weights = "{name}.safetensors"
class_count = {CLASS_COUNT}
options = {options}
preprocessing = {{ height = {SIDE}, width = {SIDE}, resize = {SIDE} }}
"""
    for name, architecture, options in (
        ("rectified", "test_resnet", "{}"),
        ("smooth", "test_efficientnet", "{}"),
        ("attentive", "test_vit", f"{{ img_size = {SIDE} }}"),
    )
)
ARCHITECTURES = {"rectified": "test_resnet", "smooth": "test_efficientnet", "attentive": "test_vit"}
LIMITS: dict[str, Any] = {
    "pass_rows": 8,
    "image_bytes": 1 << 18,
    "image_pixels": 100_000,
    "heatmap_bytes": 1 << 20,
    "methods": 4,
    "targets": 4,
    "objectives": 4,
    "steps": 64,
    "images": 2,
    "maximize_pixels": 2 * 48 * 48,
    "stylize_side_px": 48,
    "stylizer_pixels": 96 * 96,
    "poll_seconds": 0.0,
}
"""Settings under which no request is much work."""


def put_catalogue(folder: Path) -> Path:
    """Writes a network with rectifiers, one without and a transformer, and returns the catalogue."""
    for name, architecture in ARCHITECTURES.items():
        options = {"img_size": SIDE} if name == "attentive" else {}
        put(folder / f"{name}.safetensors", save(network(0, architecture, CLASS_COUNT, **options).state_dict()))
    put(folder / "models.toml", CATALOGUE)
    return folder / "models.toml"


@contextmanager
def small_server(folder: Path, **settings: Any) -> Iterator[Server]:
    """Runs a server of these networks; `settings` go before `LIMITS`."""
    with served(models=put_catalogue(folder), **{**LIMITS, **settings}) as server:
        yield server
