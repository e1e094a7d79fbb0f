"""One training from its first step, or its last checkpoint, to the file of the trained network."""

import hashlib
import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradserve_server.errors import InvalidInput
from gradserve_server.files import write_whole
from gradserve_server.imaging.crop import centre_square
from gradserve_server.imaging.encode import ImageFormat, encode
from gradserve_server.imaging.resize import resize
from gradserve_server.models.loading import load as load_model
from gradserve_server.models.model import Model
from gradserve_server.models.repository import find_spec
from gradserve_server.models.stylizer import serialized
from gradserve_server.training import checkpoint
from gradserve_server.training.group import Group
from gradserve_server.training.perceptual import Layers, PerceptualLoss, Weights, default_layers
from gradserve_server.training.photographs import Photographs, read_image
from gradserve_server.training.progress import Progress
from gradserve_server.training.trainer import Plan, Trainer, as_images

CHECK_INTERVAL = 50
"""Steps between looks at whether the loss is finite. A look waits for the device."""

SAMPLES = 4
"""Photographs of a sample picture."""


@dataclass(frozen=True)
class Assignment:
    """What to train, on what, and where it goes. Fields are those of the command `train-stylizer`.

    Attributes:
        style: File of the style image.
        images: Folder of photographs.
        output: Where the network goes, a safetensors file in half precision.
        models: A `models.toml`; None for the embedded network.
        model: Name of the network that gives features; empty for the first.
        content_layers: Layers that compare content; None for those of the architecture.
        style_layers: Layers that compare style, likewise.
        style_size: Shorter side of the style image in pixels.
        size: Height and width of crops in pixels.
        weights: Weights of the loss.
        plan: How to train.
        checkpoint: Where the state goes, and comes from if it is there; None for nowhere.
        checkpoint_interval: Steps between checkpoints.
        samples: Folder of sample pictures; None for none.
        sample_interval: Steps between them.
    """

    style: Path
    images: Path
    output: Path
    weights: Weights
    plan: Plan
    size: int = 256
    style_size: int = 256
    models: Path | None = None
    model: str = ""
    content_layers: tuple[str, ...] | None = None
    style_layers: tuple[str, ...] | None = None
    checkpoint: Path | None = None
    checkpoint_interval: int = 200
    samples: Path | None = None
    sample_interval: int = 200


def train(assignment: Assignment, group: Group) -> Trainer:
    """Trains to the end, and writes the network.

    Raises:
        InvalidInput: Something given does not fit.
        ModelLoadError: The feature network cannot be loaded.
    """
    trainer, photographs, settings = prepare(assignment, group)
    progress = Progress(assignment.plan.steps, speaks=group.first)
    path, plan = assignment.checkpoint, assignment.plan
    if path is not None and path.exists():
        trainer.restore(checkpoint.load(path, settings))
        progress.note(f"goes on after step {trainer.step} of {path}")
    while trainer.step < plan.steps:
        terms = trainer.advance()
        last = trainer.step == plan.steps
        if not group.first:
            continue
        progress.step(trainer.step, terms)
        if (last or trainer.step % CHECK_INTERVAL == 0) and not isfinite(float(terms.total.detach())):
            raise InvalidInput(f"the loss is not finite after step {trainer.step}: give a lower --learning-rate")
        if path is not None and (last or trainer.step % assignment.checkpoint_interval == 0):
            checkpoint.save(trainer.checkpoint(settings), path)
        if assignment.samples is not None and (last or trainer.step % assignment.sample_interval == 0):
            _write_sample(trainer, photographs, assignment, group)
    if group.first:
        facts = {"step": str(trainer.step)} | settings
        content = serialized(trainer.network, facts)
        write_whole(assignment.output, lambda file: file.write(content))
        progress.note(f"{assignment.output}: SHA-256 {hashlib.sha256(content).hexdigest()}")
    return trainer


def prepare(assignment: Assignment, group: Group) -> tuple[Trainer, Photographs, dict[str, str]]:
    """Returns a trainer at its first step, what it trains on, and all settings that its result depends on."""
    model = load_model(find_spec(assignment.models, assignment.model), group.device)
    layers = _layers(assignment, model)
    style = as_images(_shorter_side(read_image(assignment.style), assignment.style_size)[None], group.device)
    loss = PerceptualLoss(model, style, layers, assignment.weights, mixed=assignment.plan.mixed)
    photographs = Photographs(assignment.images, assignment.size, assignment.plan.seed)
    plan = assignment.plan
    settings = {
        "style": hashlib.sha256(assignment.style.read_bytes()).hexdigest(),
        "style_size": str(assignment.style_size),
        "images": _digest(photographs, assignment.images),
        "size": str(assignment.size),
        "photographs_per_step": str(plan.batch_size * group.size),
        "steps": str(plan.steps),
        "seed": str(plan.seed),
        "width": str(plan.width),
        "learning_rate": str(plan.learning_rate),
        "precision": "bfloat16" if plan.mixed else "float32",
        "model": model.version,
        "layers": json.dumps(vars(layers)),
        "weights": json.dumps(vars(assignment.weights)),
    }
    return Trainer(plan, loss, photographs, group), photographs, settings


def _layers(assignment: Assignment, model: Model) -> Layers:
    content, style = assignment.content_layers, assignment.style_layers
    if content is None or style is None:
        chosen = default_layers(model)
        content, style = content or chosen.content, style or chosen.style
    layers = Layers(content, style)
    for name in (*layers.content, *layers.style):
        model.layer(name)
    return layers


def _digest(photographs: Photographs, folder: Path) -> str:
    listed = [f"{path.relative_to(folder)} {path.stat().st_size}" for path in photographs.files]
    return f"{len(listed)} files, {hashlib.sha256(chr(10).join(listed).encode()).hexdigest()[:16]}"


def _shorter_side(pixels: npt.NDArray[np.uint8], length: int) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = length / min(height, width)
    return np.asarray(resize(pixels, round(height * scale), round(width * scale)))


def _write_sample(trainer: Trainer, photographs: Photographs, assignment: Assignment, group: Group) -> None:
    """Writes photographs above what becomes of them: always the same ones."""
    assert assignment.samples is not None
    pixels = np.stack([centre_square(read_image(path), assignment.size) for path in photographs.files[:SAMPLES]])
    pictures = trainer.stylized(as_images(pixels, group.device))
    below = np.rint(pictures.permute(0, 2, 3, 1).cpu().numpy() * 255).astype(np.uint8)
    sheet = encode(np.concatenate([np.concatenate(list(row), 1) for row in (pixels, below)]), ImageFormat.JPEG)
    write_whole(assignment.samples / f"step-{trainer.step:06d}.jpg", lambda file: file.write(sheet))
