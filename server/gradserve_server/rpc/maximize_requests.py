"""From a Maximize request to the program's task. All that can be wrong with it is found here, before any work."""

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from gradserve.v1 import maximize_pb2
from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.query import ActivationRule
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput, RequestError
from gradserve_server.imaging.encode import ImageFormat, check_sides
from gradserve_server.imaging.geometry import as_float, fit_decoded, least_side
from gradserve_server.imaging.resize import resize, within_pixels
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Repository
from gradserve_server.programs.maximize.presets import Preset
from gradserve_server.programs.maximize.recipe import Recipe
from gradserve_server.rpc.fields import enum_field, in_range, margin_seconds, preview_interval
from gradserve_server.rpc.maximize_objectives import objective, target
from gradserve_server.rpc.maximize_recipe import recipe_of
from gradserve_server.rpc.requests import image_decoded, seed_of
from gradserve_server.rpc.targets import check_count

SHORTEST_SIDE = 16
MOST_FRAMED = 4
"""How many times the pixels of images, at most, images with their frames have."""


@dataclass(frozen=True)
class MaximizeCall:
    """A checked request.

    Attributes:
        model: The model.
        objective: What to maximise; None makes the class seen in the image improbable.
        target: Class that an attack aims at; None when it aims away from what is seen.
        recipe: How to climb.
        preset: Where the recipe comes from.
        size: Height and width asked for; None for those that the image or the model has.
        count: Number of images.
        image_given: Whether there is an image to start from.
        rule: How gradients pass rectifiers.
        seed: Seed of all random draws.
        preview_interval_steps: Steps between previews; 0 for none.
        format: File format of pictures.
        margin_seconds: How long before the deadline to end early; None never does.
        include_pixels: Whether the images are wanted as numbers.
    """

    model: Model
    objective: Objective | None
    target: int | None
    recipe: Recipe
    preset: Preset
    size: tuple[int, int] | None
    count: int
    image_given: bool
    rule: ActivationRule
    seed: int
    preview_interval_steps: int
    format: ImageFormat
    margin_seconds: float | None
    include_pixels: bool


def maximize_call(request: maximize_pb2.MaximizeRequest, repository: Repository, settings: Settings) -> MaximizeCall:
    """Checks all of a request but its image.

    Raises:
        InvalidInput: A field's value can never be served.
        NotFound: There is no such model.
        Unsupported: The model cannot do it.
    """
    model = repository.get(request.model)
    settings = settings.within(model.limits)
    given = request.HasField("image")
    preset = enum_field(Preset, request, "preset") or (Preset.DEEPDREAM if given else Preset.LUCID)
    if preset.attacks and not given:
        raise InvalidInput(f"{preset.value} perturbs an image: give one", field="image", reason="MISSING_IMAGE")
    count = request.count if request.HasField("count") else 1
    in_range(count, 1, settings.images, "count")
    if given and count > 1:
        raise InvalidInput(f"from a given image all {count} would be the same; ask for 1", field="count")
    check_count(len(request.objectives), settings.objectives, "objectives")
    if not request.objectives and not preset.attacks:
        raise InvalidInput("give at least one objective", field="objectives", reason="MISSING_OBJECTIVE")
    rule = enum_field(ActivationRule, request, "activation_rule") or ActivationRule.STANDARD
    parts = recipe_of(request, preset, rule, model, settings)
    size = _size(request, settings)
    call = MaximizeCall(
        model=model,
        objective=objective(request.objectives, model, count),
        target=target(request.objectives, model),
        recipe=parts,
        preset=preset,
        size=size,
        count=count,
        image_given=given,
        rule=rule,
        seed=seed_of(request),
        preview_interval_steps=preview_interval(request, parts.step_count * parts.octaves.count, settings.previews),
        format=enum_field(ImageFormat, request, "format") or ImageFormat.PNG,
        margin_seconds=margin_seconds(request),
        include_pixels=request.include_pixels,
    )
    if not given:
        check_size(size or (model.preprocessing.height, model.preprocessing.width), call, settings)
    return call


def start_images(
    request: maximize_pb2.MaximizeRequest, call: MaximizeCall, settings: Settings
) -> npt.NDArray[np.float32]:
    """Makes what the program starts from, [images, 3, height, width] in 0..1. Slow: for the pool.

    Raises:
        InvalidInput: The image is damaged or too large.
    """
    settings = settings.within(call.model.limits)
    preprocessing = call.model.preprocessing
    if not call.image_given:
        height, width = call.size or (preprocessing.height, preprocessing.width)
        mean = np.asarray(preprocessing.mean, np.float32)[:, None, None]
        return np.broadcast_to(mean, (call.count, 3, height, width)).copy()
    # As Explain sees it: an attack is on that.
    fits = call.size is None and call.preset.attacks
    try:
        image = image_decoded(
            request.image, settings, least_side(preprocessing, settings.image_oversampling) if fits else 0
        )
    except RequestError as error:
        raise error.within("image") from error.__cause__
    pixels = fit_decoded(image, preprocessing)[0] if fits else image.pixels
    whole = (pixels.shape[0], pixels.shape[1])
    height, width = whole if fits else call.size or within_pixels(whole, settings.maximize_pixels)
    check_size((height, width), call, settings)
    return np.ascontiguousarray(as_float(resize(pixels, height, width)).transpose(2, 0, 1)[None])


def check_size(size: tuple[int, int], call: MaximizeCall, settings: Settings) -> None:
    """Checks the size of the images, the smallest octave's included.

    Raises:
        InvalidInput: It cannot be served.
    """
    count, parts = call.count, call.recipe
    total = count * size[0] * size[1]
    if total > settings.maximize_pixels:
        raise InvalidInput(
            f"{count} image{'s' * (count > 1)} of {size[1]} x {size[0]} would have {total} pixels; at most "
            f"{settings.maximize_pixels} are served: give a smaller size",
            field="size",
            reason="IMAGE_TOO_LARGE",
            metadata={"pixels": str(total), "max_pixels": str(settings.maximize_pixels)},
        )
    smallest = parts.octaves.sizes(*size)[0]
    if min(smallest) < SHORTEST_SIDE:
        octaves = parts.octaves.count > 1
        raise InvalidInput(
            f"the smallest image would be {smallest[1]} x {smallest[0]}; no side may be shorter than {SHORTEST_SIDE}",
            field="octaves" if octaves and min(size) >= SHORTEST_SIDE else "size",
            reason="IMAGE_TOO_SMALL",
        )
    for name in ("pad_px", "jitter_px"):
        in_range(getattr(parts.robustness, name), 0, max(size), f"robustness.{name}")
    framed = count * prod(side + 2 * parts.robustness.pad_px for side in size)
    most = MOST_FRAMED * settings.maximize_pixels
    if framed > most:
        raise InvalidInput(
            f"with their frames the images would have {framed} pixels; at most {most} are served: "
            "give a narrower frame or a smaller size",
            field="robustness.pad_px",
            reason="IMAGE_TOO_LARGE",
            metadata={"pixels": str(framed), "max_pixels": str(most)},
        )
    # Previews show all images side by side.
    check_sides((count if call.preview_interval_steps else 1) * size[1], size[0], call.format)


def _size(request: maximize_pb2.MaximizeRequest, settings: Settings) -> tuple[int, int] | None:
    if not request.HasField("size"):
        return None
    for name in ("height", "width"):
        in_range(getattr(request.size, name), SHORTEST_SIDE, settings.maximize_pixels // SHORTEST_SIDE, f"size.{name}")
    return request.size.height, request.size.width
