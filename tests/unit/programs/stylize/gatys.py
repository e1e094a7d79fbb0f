"""Style transfer as one writes it by hand: slices of VGG, torch.optim.LBFGS with a closure. The oracle."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Vgg19(nn.Module):
    """VGG-19 with a quarter of its channels, random weights that keep activations alive, and a small head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = make_layers([width if width == "M" else width // 4 for width in cfgs["E"]], batch_norm=False)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.normal_(module.bias, std=0.1)
        self.classifier = nn.Linear(128, 3)

    def forward(self, rows: Tensor) -> Tensor:
        return self.classifier(self.features(rows).mean((2, 3)))


def features(network: Vgg19, pixels: Tensor, last: int) -> dict[int, Tensor]:
    rows = (pixels - pixels.new_tensor(MEAN).view(3, 1, 1)) / pixels.new_tensor(STD).view(3, 1, 1)
    found = {}
    for index, module in enumerate(network.features[: last + 1]):
        rows = module(rows)
        if isinstance(module, nn.ReLU):
            # The next convolution reads it, no operation changes it.
            found[index] = rows
    return found


def gram(activation: Tensor) -> Tensor:
    positions = activation.shape[2] * activation.shape[3]
    return torch.einsum("nchw,ndhw->ncd", activation, activation) / positions


def transferred(
    network: Vgg19,
    content: Tensor,
    styles: Sequence[tuple[Tensor, float]],
    content_layers: dict[int, float],
    style_layers: dict[int, float],
    weights: tuple[float, float, float],
    steps: int,
) -> tuple[Tensor, list[float]]:
    """Returns the image after some steps from the content, and the loss before each."""
    last = max([*content_layers, *style_layers])
    with torch.no_grad():
        wanted = features(network, content, last)
        share = sum(weight for _, weight in styles)
        seen = [(features(network, style, last), weight / share) for style, weight in styles]
        grams = {layer: sum(weight * gram(found[layer]) for found, weight in seen) for layer in style_layers}
    image = content.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([image], lr=1, max_iter=1, history_size=100)
    losses: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = features(network, image, last)
        of_content = sum(
            weight * ((found[layer] - wanted[layer]) ** 2).sum() / (wanted[layer] ** 2).sum()
            for layer, weight in content_layers.items()
        ) / sum(content_layers.values())
        of_style = sum(
            weight * ((gram(found[layer]) - grams[layer]) ** 2).sum() / (grams[layer] ** 2).sum()
            for layer, weight in style_layers.items()
        ) / sum(style_layers.values())
        down = (image[:, :, 1:] - image[:, :, :-1]).abs().sum()
        right = (image[:, :, :, 1:] - image[:, :, :, :-1]).abs().sum()
        variation = (down + right) / (image.shape[2] * image.shape[3])
        loss = weights[0] * of_content + weights[1] * of_style + weights[2] * variation
        loss.backward()
        losses.append(float(loss.detach()))
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return image.detach(), losses
