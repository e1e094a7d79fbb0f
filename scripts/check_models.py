"""Loads networks of torchvision and timm from a model repository, explains with each, and compares their logits.

Takes minutes. Usage: python scripts/check_models.py [NAME ...]
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop, resize, to_tensor

from gradserve import Client
from gradserve_server.imaging.geometry import fit, model_input
from gradserve_server.models.folder import read_model
from gradserve_server.models.specification import Allowed

CLASSES = 10
TOLERANCE = 1e-4
PHOTOGRAPH = skimage.data.chelsea()
NETWORKS = (
    *("torchvision:resnet50", "torchvision:vgg19", "torchvision:densenet121", "torchvision:mobilenet_v3_large"),
    *("torchvision:efficientnet_v2_s", "torchvision:convnext_tiny", "torchvision:vit_b_16", "torchvision:swin_t"),
    *(
        "timm:resnetv2_50",
        "timm:convnextv2_atto",
        "timm:mobilevit_xxs",
        "timm:deit_tiny_patch16_224",
        "timm:mixer_s32_224",
    ),
)
SIZES = {"torchvision:efficientnet_v2_s": 128, "torchvision:vgg19": 64}
"""Smaller inputs where the architecture takes any size and its own is slow."""


def network(architecture: str) -> nn.Module:
    """Makes a network with random weights, those of layers that start at zero included."""
    library, _, name = architecture.partition(":")
    torch.manual_seed(0)
    make = torchvision.models.get_model if library == "torchvision" else timm.create_model
    module: nn.Module = make(name, num_classes=CLASSES)
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return module.eval()


def plain_input(architecture: str) -> Tensor:
    """Prepares the photograph as the library itself does."""
    library, _, name = architecture.partition(":")
    image = torchvision.transforms.functional.to_pil_image(PHOTOGRAPH)
    if library == "timm":
        module = timm.create_model(name)
        return timm.data.create_transform(**timm.data.resolve_model_data_config(module))(image)[None]
    weights = torchvision.models.get_model_weights(name).DEFAULT
    if architecture not in SIZES:
        return weights.transforms()(image)[None]
    transforms, size = weights.transforms(), SIZES[architecture]
    small = center_crop(resize(image, [size], transforms.interpolation), [size])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (transforms.mean, transforms.std))
    return ((to_tensor(small) - mean) / std)[None]


def put(folder: Path, architecture: str) -> None:
    """Adds a network to a repository."""
    model = folder / architecture.partition(":")[2]
    (model / "1").mkdir(parents=True)
    save_file(network(architecture).state_dict(), model / "1" / "weights.safetensors")
    size = SIZES.get(architecture)
    lines = [f'architecture = "{architecture}"', f"class_count = {CLASSES}"]
    if size:
        lines.append(f"preprocessing = {{ height = {size}, width = {size}, resize = {size} }}")
    (model / "config.toml").write_text("\n".join(lines))


def served(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Starts a server and returns it with its port."""
    command = [sys.executable, "-m", "gradserve_server", "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    # The measurements of calibration would take most of the time.
    flags = ["--models", str(folder), "--pass-rows", "1"]
    server = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"serving on port (\d+)", line):
            return server, found[1]
        print(line, end="")
    raise SystemExit("the server ended")


def check(client: Client, folder: Path, architecture: str) -> bool:
    """Explains with a network, compares its logits, and says what came of it."""
    name = architecture.partition(":")[2]
    listed = {model.name: model for model in client.list_models()}
    if name not in listed or listed[name].state != "ready":
        print(f"{architecture:<34} FAILED {listed[name].state_message if name in listed else 'not listed'}")
        return False
    model = listed[name]
    methods = ["saliency", *(one.name for one in model.methods if one.name == "grad_cam" and one.supported)]
    answers = client.explain_many(
        PHOTOGRAPH, methods=methods, model=name, frame="model_input", prediction_count=CLASSES
    )
    found = torch.tensor([score.logit for score in sorted(answers[0].predictions, key=lambda score: score.index)])
    preprocessing = read_model(folder / name, Allowed()).candidates[0].spec.preprocessing
    fitted, _ = fit(PHOTOGRAPH, preprocessing)
    same = torch.from_numpy(model_input(fitted, preprocessing))
    with torch.no_grad():
        plain = network(architecture)
        difference = float((found - plain(same)[0]).abs().max())
        # Resizing rounds pixels to whole numbers, here and there not to the same.
        library = float((found - plain(plain_input(architecture))[0]).abs().max())
    good = difference <= TOLERANCE and all(np.ptp(answer.heatmap) > 0 for answer in answers)
    print(
        f"{architecture:<34} {'ok' if good else 'FAILED'}  logits differ by {difference:.1e}, "
        f"after the library's own resize by {library:.1e}, of a range of {float(np.ptp(found)):.1g}; "
        f"{model.input_size[0]} px, {len(model.layers)} layers, default {model.default_layer or 'none'}, "
        f"{sum(one.supported for one in model.methods)} methods, served {', '.join(methods)}"
    )
    return good


def main() -> int:
    """Checks all networks, or those named."""
    wanted = sys.argv[1:] or NETWORKS
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for architecture in wanted:
            put(Path(folder), architecture)
        server, port = served(Path(folder))
        try:
            with Client(f"127.0.0.1:{port}", timeout=300) as client:
                for architecture in wanted:
                    good &= check(client, Path(folder), architecture)
        finally:
            server.kill()
            server.wait()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
