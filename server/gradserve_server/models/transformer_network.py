"""The image transformation network of Johnson, Alahi and Fei-Fei 2016 (supplementary material, section 1).

Two changes that became the practice: instance normalisation (Ulyanov et al. 2016), and nearest-neighbour upsampling
before a convolution in place of a transposed one, which leaves checkerboards (Odena et al. 2016). Names of parameters
are those of the PyTorch examples' `fast_neural_style`, so that its checkpoints load.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FULL_CHANNELS = 32
"""Channels of the first convolution of the network as published."""


class TransformerNetwork(nn.Module):
    """Images [rows, 3, height, width] in 0..255 to images of the same size, about 0..255 but not clipped.

    Sides need at least 5 pixels, for the reflection around them.

    Args:
        channels: Of the first convolution; 32 is the network as published, with 1,679,235 parameters.
    """

    def __init__(self, channels: int = FULL_CHANNELS) -> None:
        super().__init__()
        self.conv1 = _Convolution(3, channels, 9)
        self.in1 = InstanceNorm(channels)
        self.conv2 = _Convolution(channels, 2 * channels, 3, stride=2)
        self.in2 = InstanceNorm(2 * channels)
        self.conv3 = _Convolution(2 * channels, 4 * channels, 3, stride=2)
        self.in3 = InstanceNorm(4 * channels)
        self.res1 = _Residual(4 * channels)
        self.res2 = _Residual(4 * channels)
        self.res3 = _Residual(4 * channels)
        self.res4 = _Residual(4 * channels)
        self.res5 = _Residual(4 * channels)
        self.deconv1 = _Convolution(4 * channels, 2 * channels, 3, enlargement=2)
        self.in4 = InstanceNorm(2 * channels)
        self.deconv2 = _Convolution(2 * channels, channels, 3, enlargement=2)
        self.in5 = InstanceNorm(channels)
        self.deconv3 = _Convolution(channels, 3, 9)

    def forward(self, images: Tensor) -> Tensor:
        """Transforms images."""
        height, width = images.shape[-2:]
        values = F.relu(self.in1(self.conv1(images)))
        values = F.relu(self.in2(self.conv2(values)))
        values = F.relu(self.in3(self.conv3(values)))
        for block in (self.res1, self.res2, self.res3, self.res4, self.res5):
            values = block(values)
        values = F.relu(self.in4(self.deconv1(values)))
        values = F.relu(self.in5(self.deconv2(values)))
        transformed: Tensor = self.deconv3(values)
        # Going down rounds up: an image whose sides are no multiples of 4 comes back larger.
        return transformed[..., :height, :width]


class InstanceNorm(nn.Module):
    """Each channel of each row less its mean, divided by its standard deviation, scaled and shifted.

    The statistics come from a module of their own, so that they can be read, and replaced by those of another image.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.statistics = Statistics()

    def forward(self, values: Tensor) -> Tensor:
        """Normalises [rows, channels, height, width]."""
        statistics: Tensor = self.statistics(values)
        mean, variance = statistics.unbind(2)
        scale = self.weight * torch.rsqrt(variance + 1e-5)
        shift = self.bias - mean * scale
        return values * scale[:, :, None, None].to(values.dtype) + shift[:, :, None, None].to(values.dtype)


class Statistics(nn.Module):
    """Mean and variance over positions."""

    def forward(self, values: Tensor) -> Tensor:
        """Returns the mean and the variance of each channel, [rows, channels, 2], at least in float32."""
        accurate = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        flat = accurate.flatten(2)
        mean = flat.mean(2)
        # `torch.var_mean` is some fifteen times slower on a CPU, a fifth of the network's time.
        variance = torch.linalg.vector_norm(flat - mean[..., None], dim=2).square() / flat.shape[2]
        return torch.stack([mean, variance], 2)


class _Convolution(nn.Module):
    """Enlargement, reflection around the border, convolution: at stride 1 the size stays."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, enlargement: int = 1) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(inputs, outputs, size, stride)
        self._border = size // 2
        self._enlargement = enlargement

    def forward(self, values: Tensor) -> Tensor:
        if self._enlargement > 1:
            values = F.interpolate(values, scale_factor=self._enlargement, mode="nearest")
        border = self._border
        convolved: Tensor = self.conv2d(F.pad(values, (border, border, border, border), mode="reflect"))
        return convolved


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _Convolution(channels, channels, 3)
        self.in1 = InstanceNorm(channels)
        self.conv2 = _Convolution(channels, channels, 3)
        self.in2 = InstanceNorm(channels)

    def forward(self, values: Tensor) -> Tensor:
        changed: Tensor = self.in2(self.conv2(F.relu(self.in1(self.conv1(values)))))
        return values + changed
