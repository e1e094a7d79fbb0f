"""Style without colour: only brightness is stylised, and the content keeps its colours (Gatys et al. 2016b).

Gatys, Bethge, Hertzmann, Shechtman 2016, "Preserving color in neural artistic style transfer", section 4.2. YIQ is
linear and grey has no I and Q, so an image with another luminance is the image plus the difference, in all colours.
"""

from torch import Tensor

YIQ_LUMINANCE = (0.299, 0.587, 0.114)


def luminance(pixels: Tensor) -> Tensor:
    """Returns the luminance of pixels [images, 3, height, width], [images, 1, height, width]."""
    weights = pixels.new_tensor(YIQ_LUMINANCE)[:, None, None]
    return (pixels * weights).sum(1, keepdim=True)


def with_luminance(pixels: Tensor, wanted: Tensor) -> Tensor:
    """Returns pixels [images, 3, height, width] with the luminance `wanted` [images, 1, height, width]."""
    return pixels + (wanted - luminance(pixels))


def matched(style: Tensor, content: Tensor) -> Tensor:
    """Returns a style's luminance shifted and scaled to the mean and deviation of a content's (section 4.2)."""
    scale = content.std() / style.std().clamp(min=1e-6)
    return (style - style.mean()) * scale + content.mean()
