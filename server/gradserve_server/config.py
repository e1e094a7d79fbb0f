"""Settings of a server: flags, else environment variables, else defaults."""

import argparse
import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any

ENVIRONMENT_PREFIX = "GRADSERVE_"

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
LOG_FORMATS = ("text", "json")

LIMITS = ("methods", "targets", "objectives", "steps", "images", "maximize_pixels")
"""Settings that a model can have lower."""


def _setting(default: Any, help: str, kind: Any = str) -> Any:
    return field(default=default, metadata={"help": help, "kind": kind})


def _truth(text: str | bool) -> bool:
    if str(text).lower() in ("true", "1", "yes", "on"):
        return True
    if str(text).lower() in ("false", "0", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"must be true or false, not {text!r}")


def _whole(least: int, most: float = inf) -> Callable[[str], int]:
    """Returns what reads a whole number in this range."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
        if not least <= value <= most:
            bounds = f"{least} or more" if most == inf else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"must be {bounds}, not {value}")
        return value

    return read


def _number(least: float = 0.0, most: float = inf) -> Callable[[str], float]:
    """Returns what reads a number in this range."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None
        # Also false for a value that is not a number.
        if not least <= value <= most:
            bounds = f"{least:g} or more" if most == inf else f"{least:g} to {most:g}"
            raise argparse.ArgumentTypeError(f"must be {bounds}, not {text}")
        return value

    return read


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"must be HOST:PORT, for example 0.0.0.0:9090, not {text!r}")
    return text


def _optional_address(text: str) -> str:
    return _address(text) if text else ""


def _log_level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(LOG_LEVELS)}, not {text!r}")
    return text.upper()


def _log_format(text: str) -> str:
    if text not in LOG_FORMATS:
        raise argparse.ArgumentTypeError(f"must be {' or '.join(LOG_FORMATS)}, not {text!r}")
    return text


@dataclass(frozen=True)
class Settings:
    """How a server serves."""

    listen: str = _setting("127.0.0.1:50051", "address of the service, HOST:PORT; port 0 takes a free one", _address)
    metrics: str = _setting(
        "127.0.0.1:9090", "address of the Prometheus metrics, HOST:PORT; port 0 takes a free one", _address
    )
    operations: str = _setting(
        "",
        "address of health and channelz in plain text, HOST:PORT, for probes; without it health is with the service",
        _optional_address,
    )
    tls_certificate: Path | None = _setting(None, "PEM file of the certificate; without it the service is plain", Path)
    tls_key: Path | None = _setting(None, "PEM file of the certificate's private key", Path)
    tls_client_authorities: Path | None = _setting(
        None, "PEM file of the authorities whose certificates callers must show; without it they need none", Path
    )
    tokens: Path | None = _setting(
        None, "file of names and hashed tokens, of which each call must carry one; without it none needs one", Path
    )
    ui: str = _setting(
        "", "address of the page to look at, HOST:PORT; port 0 takes a free one; empty for no page", _optional_address
    )
    models: Path | None = _setting(
        None, "models.toml or folder of models to serve; without it the embedded one is served", Path
    )
    device: str = _setting("auto", "device that computes: cpu, cuda:0, or auto for a GPU if there is one")
    pass_rows: int = _setting(0, "rows per pass; 0 for what calibration finds", _whole(0))
    calibration_cache: Path | None = _setting(
        None,
        "folder that keeps measured costs of passes, so that a restart is quick; without it they are forgotten",
        Path,
    )
    queue_size: int = _setting(1024, "largest number of requests being decoded, waiting and computed", _whole(1))
    queue_bytes: int = _setting(
        0, "bytes that these may hold together; 0 for a third of what memory the process may have", _whole(0)
    )
    interactive_queue_seconds: float = _setting(
        60.0, "most work of Explain that may wait, in seconds of the device", _number()
    )
    iterative_queue_seconds: float = _setting(
        1800.0, "most work of Maximize and Stylize that may wait, in seconds of the device", _number()
    )
    tenant_share: float = _setting(0.9, "part of each of the four that one tenant may have, 0.01..1", _number(0.01, 1))
    answer_cache_bytes: int = _setting(
        0, "bytes of answers of Explain to keep for the same requests; 0 for none", _whole(0)
    )
    image_bytes: int = _setting(32 << 20, "largest encoded image or array of pixels in bytes", _whole(1))
    image_pixels: int = _setting(50_000_000, "largest number of pixels of an image", _whole(1))
    image_oversampling: int = _setting(
        3,
        "pixels of a JPEG to decode for each of the model's input, in each direction, at the least; 0 for all",
        _whole(0),
    )
    heatmap_bytes: int = _setting(64 << 20, "largest total size of the heatmaps of one answer in bytes", _whole(1))
    methods: int = _setting(32, "largest number of methods in one request", _whole(1))
    targets: int = _setting(20, "largest number of targets in one request", _whole(1))
    rows: int = _setting(100_000, "most work of one Explain request, in rows of one gradient", _whole(1))
    layers: int = _setting(32, "largest number of layers that one method or term names, 1..32", _whole(1, 32))
    previews: int = _setting(2048, "largest number of previews of one stream", _whole(1))
    decode_seconds: float = _setting(5.0, "longest time of a processor to decode one image, in seconds", _number())
    objectives: int = _setting(16, "largest number of objectives in one request", _whole(1))
    steps: int = _setting(2048, "largest number of steps of an iterative request", _whole(1))
    images: int = _setting(16, "largest number of images optimised together", _whole(1))
    maximize_pixels: int = _setting(
        4 << 20, "largest number of pixels of all images of one Maximize request", _whole(1)
    )
    stylize_side_px: int = _setting(1024, "longer side of a stylised image in pixels at most", _whole(1))
    stylizer_pixels: int = _setting(
        24_000_000, "largest number of pixels of a picture that a stylizer makes", _whole(1)
    )
    streams: int = _setting(256, "largest number of Maximize and Stylize streams of one tenant at once", _whole(1))
    default_model: str = _setting("", "model of requests that name none; without it the first")
    poll_seconds: float = _setting(
        5.0, "time between looks at the models for changes, in seconds; 0 for none", _number()
    )
    model_bytes: int = _setting(0, "bytes of weights above which idle models are unloaded; 0 for no bound", _whole(0))
    allow_python_models: bool = _setting(False, "whether a model may be a Python factory, which runs its code", _truth)
    allow_downloads: bool = _setting(False, "whether torchvision may download weights by name", _truth)
    drain_seconds: float = _setting(30.0, "time for requests in flight to end after SIGTERM, in seconds", _number())
    wedged_seconds: float = _setting(
        120.0,
        "how much longer than expected a pass may take before the process gives itself up, in seconds",
        _number(1),
    )
    traces: str = _setting(
        "", "collector of traces, OTLP over gRPC, http://HOST:4317; without it none are made (extra `tracing`)"
    )
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR", _log_level)
    log_format: str = _setting("text", "text, or json: one object a line", _log_format)

    @property
    def message_bytes(self) -> int:
        """Largest request, which gRPC itself refuses beyond it: the largest image, and room for others and the rest."""
        return self.image_bytes + (16 << 20)

    def within(self, limits: Mapping[str, int]) -> "Settings":
        """Returns these settings with lower limits where `limits`, by setting, has them."""
        return replace(self, **{name: min(limit, getattr(self, name)) for name, limit in limits.items()})


def add_settings(
    parser: argparse.ArgumentParser, environment: Mapping[str, str] = os.environ, *, only: Container[str] | None = None
) -> None:
    """Adds a flag for each setting to `parser`, or only for some; the environment gives the defaults."""
    for setting in fields(Settings):
        if only is not None and setting.name not in only:
            continue
        variable = ENVIRONMENT_PREFIX + setting.name.upper()
        # A switch needs no argument.
        switch: dict[str, Any] = {"nargs": "?", "const": True} if setting.metadata["kind"] is _truth else {}
        parser.add_argument(
            f"--{setting.name.replace('_', '-')}",
            # argparse converts a default that is a string as it does an argument.
            default=environment.get(variable, setting.default),
            type=setting.metadata["kind"],
            metavar=setting.name.upper(),
            **switch,
            help=f"{setting.metadata['help']} (default {setting.default}; {variable})",
        )


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Returns the settings that `add_settings` put into parsed arguments."""
    return Settings(**{setting.name: getattr(arguments, setting.name) for setting in fields(Settings)})


def parse_settings(arguments: Sequence[str]) -> Settings:
    """Returns the settings given as command-line flags."""
    parser = argparse.ArgumentParser()
    add_settings(parser)
    return settings_from(parser.parse_args(arguments))
