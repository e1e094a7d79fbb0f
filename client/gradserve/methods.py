"""Methods of explanation with their parameters, generated from the contract and the server's defaults.

>>> from gradserve import methods
>>> client.explain("cat.jpg", method=methods.IntegratedGradients(step_count=64))

What is left at its default is not sent: the server's own counts, which is the same unless its version differs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from gradserve.images import ImageLike
from gradserve.method import Method, MethodLike

__all__ = [
    "AblationCam",
    "AttentionRollout",
    "Baseline",
    "BlurIg",
    "Deconvnet",
    "DeepLift",
    "EigenCam",
    "EigenGradCam",
    "GradCam",
    "GradCamPlusPlus",
    "GradientShap",
    "GuidedBackprop",
    "GuidedGradCam",
    "GuidedIg",
    "HiresCam",
    "InputXGradient",
    "IntegratedGradients",
    "KernelShap",
    "LayerCam",
    "Lrp",
    "Occlusion",
    "Rise",
    "Saliency",
    "ScoreCam",
    "SmoothGrad",
    "SmoothGradSquared",
    "VarGrad",
    "XgradCam",
    "Xrai",
]

Baseline = (
    Literal["black", "white", "mean", "blurred"]
    | tuple[Literal["blurred"], Mapping[str, float]]
    | tuple[Literal["image"], ImageLike]
)
"""An image without what is explained, to compare with."""


@dataclass(frozen=True, kw_only=True)
class Saliency(Method):
    """Gradient of the class score with respect to the pixels (Simonyan, Vedaldi, Zisserman 2013).

    Attributes:
        reduction: Reduction over colour channels. Default `max_abs`.
    """

    name: ClassVar[str] = "saliency"
    reduction: Literal["max_abs", "sum", "sum_abs"] = "max_abs"


@dataclass(frozen=True, kw_only=True)
class Deconvnet(Method):
    """Gradient with every rectifier's backward replaced by a rectifier (Zeiler and Fergus 2014). Needs a model with
    rectifiers.

    Attributes:
        reduction: Reduction over colour channels. Default `max_abs`.
    """

    name: ClassVar[str] = "deconvnet"
    reduction: Literal["max_abs", "sum", "sum_abs"] = "max_abs"


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(Method):
    """Gradient that passes a rectifier only where both its input and the gradient are positive (Springenberg et al.
    2015). Needs a model with rectifiers.

    Attributes:
        reduction: Reduction over colour channels. Default `max_abs`.
    """

    name: ClassVar[str] = "guided_backprop"
    reduction: Literal["max_abs", "sum", "sum_abs"] = "max_abs"


@dataclass(frozen=True, kw_only=True)
class GradCam(Method):
    """Grad-CAM (Selvaraju et al. 2017): a layer's activations weighted by the spatial mean of the score's gradient.

    Attributes:
        layers: Names of layers with positions, as ListModels gives them; their maps are averaged; at most
            `Limits.layers`. Empty: the model's default layer.
        relu: Keep the positive part of each layer's map only. Default true.
        interpolation: How a layer's map grows to the size of the model's input. Default `bilinear`.
        normalization: What values the map has. Default `none`.
        augmentation_smoothing: Average over the image and its mirror image at 0.9, 1 and 1.1 times the model's
            input; costs six times as much. Default false.
    """

    name: ClassVar[str] = "grad_cam"
    layers: str | Sequence[str] = ()
    relu: bool = True
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    normalization: Literal["none", "min_max"] = "none"
    augmentation_smoothing: bool = False


@dataclass(frozen=True, kw_only=True)
class GuidedGradCam(Method):
    """Guided Grad-CAM (Selvaraju et al. 2017): guided backpropagation multiplied by the upsampled Grad-CAM. Needs a
    model with rectifiers.

    Attributes:
        layers: Layers of the Grad-CAM. Empty: the model's default layer.
        reduction: Reduction over colour channels. Default `max_abs`.
        interpolation: How the Grad-CAM grows to the size of the model's input. Default `bilinear`.
    """

    name: ClassVar[str] = "guided_grad_cam"
    layers: str | Sequence[str] = ()
    reduction: Literal["max_abs", "sum", "sum_abs"] = "max_abs"
    interpolation: Literal["bilinear", "nearest"] = "bilinear"


@dataclass(frozen=True, kw_only=True)
class InputXGradient(Method):
    """Gradient of the class score multiplied by the model's input after normalisation (Shrikumar et al. 2016).

    Attributes:
        reduction: Reduction over colour channels. Default `sum`.
    """

    name: ClassVar[str] = "input_x_gradient"
    reduction: Literal["max_abs", "sum", "sum_abs"] = "sum"


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(Method):
    """Integrated gradients (Sundararajan, Taly, Yan 2017): gradients integrated on the straight line from a baseline
    to the image, times their difference. The attributions add up to the change of score;
    `Explanation.approximation_error` says how nearly (with several baselines, the mean of each one's).

    Attributes:
        reduction: Reduction over colour channels. Default `sum`.
        step_count: Number of points on each line, 1..1000. Default 50.
        baselines: Where lines begin, at most 8; the attributions of several are averaged. Empty: black.
        spacing: Where on a line the points are. Default `even`.
    """

    name: ClassVar[str] = "integrated_gradients"
    reduction: Literal["max_abs", "sum", "sum_abs"] = "sum"
    step_count: int = 50
    baselines: Baseline | list[Baseline] = "black"
    spacing: Literal["even", "near_baseline"] = "even"


@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Method):
    """SmoothGrad (Smilkov et al. 2017): the signed mean of a gradient method over noisy copies of the image. The mean
    is of each colour channel; then the channels become one by the reduction of the method inside.

    Attributes:
        noisy_sample_count: Number of noisy copies, 1..500; times the gradients of the method inside at most 10000.
            Default 50.
        noise_sigma: Standard deviation of the normal noise, as a part of the range from black to white, 0..1.
            Default 0.15.
        around: The method inside: one with a `reduction`. Default saliency.
    """

    name: ClassVar[str] = "smooth_grad"
    noisy_sample_count: int = 50
    noise_sigma: float = 0.15
    around: MethodLike = "saliency"


@dataclass(frozen=True, kw_only=True)
class SmoothGradSquared(Method):
    """SmoothGrad squared (Hooker et al. 2019): the mean square of a gradient method over noisy copies of the image, of
    each colour channel; then the channels become one by the reduction of the method inside.

    Attributes:
        noisy_sample_count: Number of noisy copies, 1..500; times the gradients of the method inside at most 10000.
            Default 50.
        noise_sigma: Standard deviation of the normal noise, as a part of the range from black to white, 0..1.
            Default 0.15.
        around: The method inside: one with a `reduction`. Default saliency.
    """

    name: ClassVar[str] = "smooth_grad_squared"
    noisy_sample_count: int = 50
    noise_sigma: float = 0.15
    around: MethodLike = "saliency"


@dataclass(frozen=True, kw_only=True)
class VarGrad(Method):
    """VarGrad (Adebayo et al. 2018): the variance, divided by the count, of a gradient method over noisy copies of the
    image, of each colour channel; then the channels become one by the reduction of the method inside.

    Attributes:
        noisy_sample_count: Number of noisy copies, 1..500; times the gradients of the method inside at most 10000.
            Default 50.
        noise_sigma: Standard deviation of the normal noise, as a part of the range from black to white, 0..1.
            Default 0.15.
        around: The method inside: one with a `reduction`. Default saliency.
    """

    name: ClassVar[str] = "var_grad"
    noisy_sample_count: int = 50
    noise_sigma: float = 0.15
    around: MethodLike = "saliency"


@dataclass(frozen=True, kw_only=True)
class GradientShap(Method):
    """Gradient SHAP, also called expected gradients (Erion et al. 2021): the mean of the gradient at a random point
    between a random baseline and the image, times their difference.

    Attributes:
        noisy_sample_count: Number of random points, 1..500. Default 50.
        noise_sigma: Standard deviation of the normal noise on the image, as a part of the range from black to
            white, 0..1. With noise there is no `Explanation.approximation_error`. Default 0.
        baselines: What baselines are drawn from, with equal chance, at most 8. Empty: black and white.
        reduction: Reduction over colour channels. Default `sum`.
    """

    name: ClassVar[str] = "gradient_shap"
    noisy_sample_count: int = 50
    noise_sigma: float = 0.0
    baselines: Baseline | list[Baseline] = field(default_factory=lambda: ["black", "white"])
    reduction: Literal["max_abs", "sum", "sum_abs"] = "sum"


@dataclass(frozen=True, kw_only=True)
class BlurIg(Method):
    """Blur integrated gradients (Xu, Venugopalan, Sundararajan 2020): gradients integrated on the path from the
    blurred image to the image. The attributions add up to the change of score; `Explanation.approximation_error`
    says how nearly.

    Attributes:
        step_count: Number of steps, 1..1000; their standard deviations of blur grow as squares. Default 50.
        max_sigma_px: Standard deviation of the blur where the path begins, in pixels of the model's input, 0 <
            sigma <= 1000. Default 50.
        reduction: Reduction over colour channels. Default `sum`.
    """

    name: ClassVar[str] = "blur_ig"
    step_count: int = 50
    max_sigma_px: float = 50.0
    reduction: Literal["max_abs", "sum", "sum_abs"] = "sum"


@dataclass(frozen=True, kw_only=True)
class GuidedIg(Method):
    """Guided integrated gradients (Kapishnikov et al. 2021): gradients integrated on a path that moves first the
    values with the smallest gradients. The attributions add up to the change of score;
    `Explanation.approximation_error` says how nearly (with several baselines, the mean of each one's).

    Attributes:
        step_count: Number of steps, 1..1000, one after the other. Default 50.
        fraction: Part of all values that moves first, 0 < fraction <= 1; the next such part follows only if the
            step's way is not made. Default 0.25.
        baselines: Where paths begin, at most 8; the attributions of several are averaged. Empty: black.
        max_distance: How far a value may be from the straight line, as a part of its way, 0..1: 0 is the line, 1
            leaves the path free. Default 0.02.
        reduction: Reduction over colour channels. Default `sum`.
    """

    name: ClassVar[str] = "guided_ig"
    step_count: int = 50
    fraction: float = 0.25
    baselines: Baseline | list[Baseline] = "black"
    max_distance: float = 0.02
    reduction: Literal["max_abs", "sum", "sum_abs"] = "sum"


@dataclass(frozen=True, kw_only=True)
class Xrai(Method):
    """XRAI (Kapishnikov et al. 2019): superpixels of the image, added one after the other by the density of integrated
    gradients in what each adds. A pixel's value is the density of the part it was added with.

    Attributes:
        step_count: Number of steps of integrated gradients from each baseline, 1..1000. Default 50.
        baselines: Where they begin, at most 8; the attributions of several are averaged. Empty: black and white.
    """

    name: ClassVar[str] = "xrai"
    step_count: int = 50
    baselines: Baseline | list[Baseline] = field(default_factory=lambda: ["black", "white"])


@dataclass(frozen=True, kw_only=True)
class GradCamPlusPlus(Method):
    """Grad-CAM++ (Chattopadhay et al. 2018): a layer's activations weighted by a weighted sum of the score's positive
    gradients.

    Attributes:
        layers: Names of layers with positions, as ListModels gives them; their maps are averaged; at most
            `Limits.layers`. Empty: the model's default layer.
        relu: Keep the positive part of each layer's map only. Default true.
        interpolation: How a layer's map grows to the size of the model's input. Default `bilinear`.
        normalization: What values the map has. Default `none`.
        augmentation_smoothing: Average over the image and its mirror image at 0.9, 1 and 1.1 times the model's
            input; costs six times as much. Default false.
    """

    name: ClassVar[str] = "grad_cam_plus_plus"
    layers: str | Sequence[str] = ()
    relu: bool = True
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    normalization: Literal["none", "min_max"] = "none"
    augmentation_smoothing: bool = False


@dataclass(frozen=True, kw_only=True)
class HiresCam(Method):
    """HiResCAM (Draelos and Carin 2020): a layer's activations times the score's gradient, summed over channels.

    Attributes:
        layers: Names of layers with positions, as ListModels gives them; their maps are averaged; at most
            `Limits.layers`. Empty: the model's default layer.
        relu: Keep the positive part of each layer's map only. Default true.
        interpolation: How a layer's map grows to the size of the model's input. Default `bilinear`.
        normalization: What values the map has. Default `none`.
        augmentation_smoothing: Average over the image and its mirror image at 0.9, 1 and 1.1 times the model's
            input; costs six times as much. Default false.
    """

    name: ClassVar[str] = "hires_cam"
    layers: str | Sequence[str] = ()
    relu: bool = True
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    normalization: Literal["none", "min_max"] = "none"
    augmentation_smoothing: bool = False


@dataclass(frozen=True, kw_only=True)
class XgradCam(Method):
    """XGrad-CAM (Fu et al. 2020): a layer's activations weighted by the mean of the score's gradient where the channel
    is active.

    Attributes:
        layers: Names of layers with positions, as ListModels gives them; their maps are averaged; at most
            `Limits.layers`. Empty: the model's default layer.
        relu: Keep the positive part of each layer's map only. Default true.
        interpolation: How a layer's map grows to the size of the model's input. Default `bilinear`.
        normalization: What values the map has. Default `none`.
        augmentation_smoothing: Average over the image and its mirror image at 0.9, 1 and 1.1 times the model's
            input; costs six times as much. Default false.
    """

    name: ClassVar[str] = "xgrad_cam"
    layers: str | Sequence[str] = ()
    relu: bool = True
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    normalization: Literal["none", "min_max"] = "none"
    augmentation_smoothing: bool = False


@dataclass(frozen=True, kw_only=True)
class LayerCam(Method):
    """LayerCAM (Jiang et al. 2021): a layer's activations times the score's positive gradient, summed over channels.

    Attributes:
        layers: Names of layers with positions, as ListModels gives them; their maps are averaged; at most
            `Limits.layers`. Empty: the model's default layer.
        relu: Keep the positive part of each layer's map only. Default true.
        interpolation: How a layer's map grows to the size of the model's input. Default `bilinear`.
        normalization: What values the map has. Default `none`.
        augmentation_smoothing: Average over the image and its mirror image at 0.9, 1 and 1.1 times the model's
            input; costs six times as much. Default false.
    """

    name: ClassVar[str] = "layer_cam"
    layers: str | Sequence[str] = ()
    relu: bool = True
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    normalization: Literal["none", "min_max"] = "none"
    augmentation_smoothing: bool = False


@dataclass(frozen=True, kw_only=True)
class EigenCam(Method):
    """Eigen-CAM (Muhammad and Yeasin 2020): the first principal component of a layer's activations, positive where
    these are strong. The same for all targets.

    Attributes:
        layers: Names of layers with positions, as ListModels gives them; their maps are averaged; at most
            `Limits.layers`. Empty: the model's default layer.
        relu: Keep the positive part of each layer's map only. Default true.
        interpolation: How a layer's map grows to the size of the model's input. Default `bilinear`.
        normalization: What values the map has. Default `none`.
        augmentation_smoothing: Average over the image and its mirror image at 0.9, 1 and 1.1 times the model's
            input; costs six times as much. Default false.
    """

    name: ClassVar[str] = "eigen_cam"
    layers: str | Sequence[str] = ()
    relu: bool = True
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    normalization: Literal["none", "min_max"] = "none"
    augmentation_smoothing: bool = False


@dataclass(frozen=True, kw_only=True)
class EigenGradCam(Method):
    """Eigen-Grad-CAM: the first principal component of a layer's activations times the score's gradient, positive
    where these add up to evidence.

    Attributes:
        layers: Names of layers with positions, as ListModels gives them; their maps are averaged; at most
            `Limits.layers`. Empty: the model's default layer.
        relu: Keep the positive part of each layer's map only. Default true.
        interpolation: How a layer's map grows to the size of the model's input. Default `bilinear`.
        normalization: What values the map has. Default `none`.
        augmentation_smoothing: Average over the image and its mirror image at 0.9, 1 and 1.1 times the model's
            input; costs six times as much. Default false.
    """

    name: ClassVar[str] = "eigen_grad_cam"
    layers: str | Sequence[str] = ()
    relu: bool = True
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    normalization: Literal["none", "min_max"] = "none"
    augmentation_smoothing: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreCam(Method):
    """Score-CAM (Wang et al. 2020): a layer's activations weighted by a softmax of the scores of the image masked by
    each channel. No gradients.

    Attributes:
        layers: Names of layers with positions, as ListModels gives them; their maps are averaged; at most
            `Limits.layers`. Empty: the model's default layer.
        relu: Keep the positive part of each layer's map only. Default true.
        interpolation: How a layer's map grows to the size of the model's input. Default `bilinear`.
        normalization: What values the map has. Default `none`.
        augmentation_smoothing: Average over the image and its mirror image at 0.9, 1 and 1.1 times the model's
            input; costs six times as much. Default false.
        channel_count: Number of channels of each layer to ask about, those with the largest mean activation; the
            others have no part in the map. >= 0. 0: all, the default; the cost is one forward pass of the image
            for each.
    """

    name: ClassVar[str] = "score_cam"
    layers: str | Sequence[str] = ()
    relu: bool = True
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    normalization: Literal["none", "min_max"] = "none"
    augmentation_smoothing: bool = False
    channel_count: int = 0


@dataclass(frozen=True, kw_only=True)
class AblationCam(Method):
    """Ablation-CAM (Desai and Ramaswamy 2020): a layer's activations weighted by the drop of the score when each
    channel is set to 0. No gradients.

    Attributes:
        layers: Names of layers with positions, as ListModels gives them; their maps are averaged; at most
            `Limits.layers`. Empty: the model's default layer.
        relu: Keep the positive part of each layer's map only. Default true.
        interpolation: How a layer's map grows to the size of the model's input. Default `bilinear`.
        normalization: What values the map has. Default `none`.
        augmentation_smoothing: Average over the image and its mirror image at 0.9, 1 and 1.1 times the model's
            input; costs six times as much. Default false.
        channel_count: Number of channels of each layer to ask about, those with the largest mean activation; the
            others have no part in the map. >= 0. 0: all, the default; the cost is one forward pass of the image
            for each.
    """

    name: ClassVar[str] = "ablation_cam"
    layers: str | Sequence[str] = ()
    relu: bool = True
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    normalization: Literal["none", "min_max"] = "none"
    augmentation_smoothing: bool = False
    channel_count: int = 0


@dataclass(frozen=True, kw_only=True)
class AttentionRollout(Method):
    """Attention rollout (Abnar and Zuidema 2020): how much of each patch of the image reaches what the classifier
    reads, if every block passes on half of what its attention mixes and half of what it was given. The same for all
    targets. Needs a model whose attention is over all patches of the image in each block: ViT, not Swin.

    Attributes:
        head_fusion: How the attention of a block's heads becomes one. Default `mean`.
        discard_ratio: Part of each block's attention weights that is left out, the smallest ones, 0 <= ratio < 1.
            Default 0.
        interpolation: How the map grows from patches to the size of the model's input. Default `bilinear`.
    """

    name: ClassVar[str] = "attention_rollout"
    head_fusion: Literal["mean", "max", "min"] = "mean"
    discard_ratio: float = 0.0
    interpolation: Literal["bilinear", "nearest"] = "bilinear"


@dataclass(frozen=True, kw_only=True)
class Occlusion(Method):
    """Occlusion (Zeiler and Fergus 2014): how much the score falls when a window is covered; where windows overlap,
    their mean. One forward pass for each window, at most 4096.

    Attributes:
        window_px: Side of the square window in pixels of the model's input, >= 1; what is larger than a side is
            that side. Unset: a seventh of the shorter side.
        stride_px: Distance between windows in the same pixels, 1..window_px. Unset: half the window.
        baseline: What covers. Default mean.
    """

    name: ClassVar[str] = "occlusion"
    window_px: int | None = None
    stride_px: int | None = None
    baseline: Baseline = "mean"


@dataclass(frozen=True, kw_only=True)
class Rise(Method):
    """RISE (Petsiuk, Das, Saenko 2018): mean of smooth random masks, each weighted by the class's probability for the
    image seen through it. One forward pass for each mask. A target that is no class is weighted by its own value.

    Attributes:
        mask_count: Number of masks, 1..10000. The map's noise falls with its square root. Default 1000.
        grid_size: Cells a side of a mask before it is enlarged, 2..64. Default 7.
        keep_probability: Probability of a cell to be kept, 0.01..0.99. Default 0.5.
        baseline: What shows where the mask hides. Default mean.
    """

    name: ClassVar[str] = "rise"
    mask_count: int = 1000
    grid_size: int = 7
    keep_probability: float = 0.5
    baseline: Baseline = "mean"


@dataclass(frozen=True, kw_only=True)
class KernelShap(Method):
    """Kernel SHAP (Lundberg and Lee 2017): Shapley values of the cells of a grid laid over the image, or of
    superpixels, spread evenly over each one's pixels, so that the map adds up to the difference of the scores of
    image and baseline. One forward pass for each coalition of segments.

    Attributes:
        sample_count: Number of coalitions to look at, 2 * segment_count .. 10000. The values are exact where there
            are no more. Default 1000.
        segment_count: Number of cells, 4..400; the largest square number not above it is taken. Of superpixels
            there are at most so many. Default 49.
        segmentation: What the image is divided into. Default `grid`.
        baseline: What shows where a segment is missing. Default mean.
    """

    name: ClassVar[str] = "kernel_shap"
    sample_count: int = 1000
    segment_count: int = 49
    segmentation: Literal["grid", "superpixels"] = "grid"
    baseline: Baseline = "mean"


@dataclass(frozen=True, kw_only=True)
class DeepLift(Method):
    """DeepLIFT (Shrikumar, Greenside, Kundaje 2017), Rescale rule: how the difference of the score from a baseline's
    is made of the differences of the pixels. Needs a model of linear operations, elementwise activations and
    maximum pooling: no attention, no gates, no layer normalisation.

    Attributes:
        reduction: Reduction over colour channels. Default `sum`.
        baselines: What to compare with, at most 8; the attributions are averaged. Default: black.
    """

    name: ClassVar[str] = "deep_lift"
    reduction: Literal["max_abs", "sum", "sum_abs"] = "sum"
    baselines: Baseline | list[Baseline] = "black"


@dataclass(frozen=True, kw_only=True)
class Lrp(Method):
    """Layer-wise relevance propagation (Bach et al. 2015, Montavon et al. 2019): the score, handed back from each sum
    to what was added up, in proportion to what it contributed. Needs a model of linear operations, maximum pooling,
    and activations that are 0 at 0: no attention, no gates, no layer normalisation.

    Attributes:
        reduction: Reduction over colour channels. Default `sum`.
        composite: Which rule goes where. Default `epsilon_gamma`.
        flat: Whether the first convolution hands back evenly, whatever the pixels are. Default true.
        epsilon: What is added to each sum, in its direction, before it is divided by, 1e-9..1000. Default 1e-6.
        gamma: How much more contributions of a sum's own sign count with EPSILON_GAMMA, 0..1000. Default 0.25.
        alpha: How often positive contributions count with EPSILON_ALPHA_BETA, 1..10. Default 1.
    """

    name: ClassVar[str] = "lrp"
    reduction: Literal["max_abs", "sum", "sum_abs"] = "sum"
    composite: Literal["epsilon", "epsilon_gamma", "epsilon_alpha_beta"] = "epsilon_gamma"
    flat: bool = True
    epsilon: float = 1e-06
    gamma: float = 0.25
    alpha: float = 1.0
