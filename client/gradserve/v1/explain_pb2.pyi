from gradserve.v1 import common_pb2 as _common_pb2
from gradserve.v1 import image_pb2 as _image_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAME_UNSPECIFIED: _ClassVar[Frame]
    FRAME_ORIGINAL: _ClassVar[Frame]
    FRAME_MODEL_INPUT: _ClassVar[Frame]

class ChannelReduction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANNEL_REDUCTION_UNSPECIFIED: _ClassVar[ChannelReduction]
    CHANNEL_REDUCTION_MAX_ABS: _ClassVar[ChannelReduction]
    CHANNEL_REDUCTION_SUM: _ClassVar[ChannelReduction]
    CHANNEL_REDUCTION_SUM_ABS: _ClassVar[ChannelReduction]

class Interpolation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERPOLATION_UNSPECIFIED: _ClassVar[Interpolation]
    INTERPOLATION_BILINEAR: _ClassVar[Interpolation]
    INTERPOLATION_NEAREST: _ClassVar[Interpolation]

class PathSpacing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PATH_SPACING_UNSPECIFIED: _ClassVar[PathSpacing]
    PATH_SPACING_EVEN: _ClassVar[PathSpacing]
    PATH_SPACING_NEAR_BASELINE: _ClassVar[PathSpacing]

class CamNormalization(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAM_NORMALIZATION_UNSPECIFIED: _ClassVar[CamNormalization]
    CAM_NORMALIZATION_NONE: _ClassVar[CamNormalization]
    CAM_NORMALIZATION_MIN_MAX: _ClassVar[CamNormalization]

class HeadFusion(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEAD_FUSION_UNSPECIFIED: _ClassVar[HeadFusion]
    HEAD_FUSION_MEAN: _ClassVar[HeadFusion]
    HEAD_FUSION_MAX: _ClassVar[HeadFusion]
    HEAD_FUSION_MIN: _ClassVar[HeadFusion]

class Segmentation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEGMENTATION_UNSPECIFIED: _ClassVar[Segmentation]
    SEGMENTATION_GRID: _ClassVar[Segmentation]
    SEGMENTATION_SUPERPIXELS: _ClassVar[Segmentation]

class LrpComposite(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LRP_COMPOSITE_UNSPECIFIED: _ClassVar[LrpComposite]
    LRP_COMPOSITE_EPSILON: _ClassVar[LrpComposite]
    LRP_COMPOSITE_EPSILON_GAMMA: _ClassVar[LrpComposite]
    LRP_COMPOSITE_EPSILON_ALPHA_BETA: _ClassVar[LrpComposite]

class Polarity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLARITY_UNSPECIFIED: _ClassVar[Polarity]
    POLARITY_POSITIVE: _ClassVar[Polarity]
    POLARITY_NEGATIVE: _ClassVar[Polarity]
    POLARITY_BOTH: _ClassVar[Polarity]

class OverlayBackground(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERLAY_BACKGROUND_UNSPECIFIED: _ClassVar[OverlayBackground]
    OVERLAY_BACKGROUND_GRAYSCALE: _ClassVar[OverlayBackground]
    OVERLAY_BACKGROUND_ORIGINAL: _ClassVar[OverlayBackground]
    OVERLAY_BACKGROUND_MASK_BLACK: _ClassVar[OverlayBackground]

class OverlayType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERLAY_TYPE_UNSPECIFIED: _ClassVar[OverlayType]
    OVERLAY_TYPE_PIXELS: _ClassVar[OverlayType]
    OVERLAY_TYPE_OUTLINES: _ClassVar[OverlayType]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_CONSISTENT: _ClassVar[Verdict]
    VERDICT_DOUBTFUL: _ClassVar[Verdict]
    VERDICT_INCONSISTENT: _ClassVar[Verdict]
FRAME_UNSPECIFIED: Frame
FRAME_ORIGINAL: Frame
FRAME_MODEL_INPUT: Frame
CHANNEL_REDUCTION_UNSPECIFIED: ChannelReduction
CHANNEL_REDUCTION_MAX_ABS: ChannelReduction
CHANNEL_REDUCTION_SUM: ChannelReduction
CHANNEL_REDUCTION_SUM_ABS: ChannelReduction
INTERPOLATION_UNSPECIFIED: Interpolation
INTERPOLATION_BILINEAR: Interpolation
INTERPOLATION_NEAREST: Interpolation
PATH_SPACING_UNSPECIFIED: PathSpacing
PATH_SPACING_EVEN: PathSpacing
PATH_SPACING_NEAR_BASELINE: PathSpacing
CAM_NORMALIZATION_UNSPECIFIED: CamNormalization
CAM_NORMALIZATION_NONE: CamNormalization
CAM_NORMALIZATION_MIN_MAX: CamNormalization
HEAD_FUSION_UNSPECIFIED: HeadFusion
HEAD_FUSION_MEAN: HeadFusion
HEAD_FUSION_MAX: HeadFusion
HEAD_FUSION_MIN: HeadFusion
SEGMENTATION_UNSPECIFIED: Segmentation
SEGMENTATION_GRID: Segmentation
SEGMENTATION_SUPERPIXELS: Segmentation
LRP_COMPOSITE_UNSPECIFIED: LrpComposite
LRP_COMPOSITE_EPSILON: LrpComposite
LRP_COMPOSITE_EPSILON_GAMMA: LrpComposite
LRP_COMPOSITE_EPSILON_ALPHA_BETA: LrpComposite
POLARITY_UNSPECIFIED: Polarity
POLARITY_POSITIVE: Polarity
POLARITY_NEGATIVE: Polarity
POLARITY_BOTH: Polarity
OVERLAY_BACKGROUND_UNSPECIFIED: OverlayBackground
OVERLAY_BACKGROUND_GRAYSCALE: OverlayBackground
OVERLAY_BACKGROUND_ORIGINAL: OverlayBackground
OVERLAY_BACKGROUND_MASK_BLACK: OverlayBackground
OVERLAY_TYPE_UNSPECIFIED: OverlayType
OVERLAY_TYPE_PIXELS: OverlayType
OVERLAY_TYPE_OUTLINES: OverlayType
VERDICT_UNSPECIFIED: Verdict
VERDICT_CONSISTENT: Verdict
VERDICT_DOUBTFUL: Verdict
VERDICT_INCONSISTENT: Verdict

class ExplainRequest(_message.Message):
    __slots__ = ("model", "image", "methods", "targets", "frame", "overlay", "trust", "seed", "prediction_count", "max_side_px")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    model: str
    image: _image_pb2.Image
    methods: _containers.RepeatedCompositeFieldContainer[Method]
    targets: _containers.RepeatedCompositeFieldContainer[Target]
    frame: Frame
    overlay: OverlayOptions
    trust: TrustOptions
    seed: int
    prediction_count: int
    max_side_px: int
    def __init__(self, model: _Optional[str] = ..., image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., methods: _Optional[_Iterable[_Union[Method, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[Target, _Mapping]]] = ..., frame: _Optional[_Union[Frame, str]] = ..., overlay: _Optional[_Union[OverlayOptions, _Mapping]] = ..., trust: _Optional[_Union[TrustOptions, _Mapping]] = ..., seed: _Optional[int] = ..., prediction_count: _Optional[int] = ..., max_side_px: _Optional[int] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("explanations", "predictions", "metadata")
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    predictions: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassScore]
    metadata: _common_pb2.Metadata
    def __init__(self, explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ..., predictions: _Optional[_Iterable[_Union[_common_pb2.ClassScore, _Mapping]]] = ..., metadata: _Optional[_Union[_common_pb2.Metadata, _Mapping]] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("class_index", "class_label", "top_k", "contrast", "unit")
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASS_LABEL_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    class_index: int
    class_label: str
    top_k: int
    contrast: Contrast
    unit: Unit
    def __init__(self, class_index: _Optional[int] = ..., class_label: _Optional[str] = ..., top_k: _Optional[int] = ..., contrast: _Optional[_Union[Contrast, _Mapping]] = ..., unit: _Optional[_Union[Unit, _Mapping]] = ...) -> None: ...

class Contrast(_message.Message):
    __slots__ = ("explained", "against")
    EXPLAINED_FIELD_NUMBER: _ClassVar[int]
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    explained: ClassReference
    against: ClassReference
    def __init__(self, explained: _Optional[_Union[ClassReference, _Mapping]] = ..., against: _Optional[_Union[ClassReference, _Mapping]] = ...) -> None: ...

class ClassReference(_message.Message):
    __slots__ = ("class_index", "class_label")
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASS_LABEL_FIELD_NUMBER: _ClassVar[int]
    class_index: int
    class_label: str
    def __init__(self, class_index: _Optional[int] = ..., class_label: _Optional[str] = ...) -> None: ...

class Unit(_message.Message):
    __slots__ = ("layer", "channel", "y", "x")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    layer: str
    channel: int
    y: int
    x: int
    def __init__(self, layer: _Optional[str] = ..., channel: _Optional[int] = ..., y: _Optional[int] = ..., x: _Optional[int] = ...) -> None: ...

class Method(_message.Message):
    __slots__ = ("saliency", "deconvnet", "guided_backprop", "grad_cam", "guided_grad_cam", "input_x_gradient", "integrated_gradients", "smooth_grad", "smooth_grad_squared", "var_grad", "gradient_shap", "blur_ig", "guided_ig", "xrai", "grad_cam_plus_plus", "hires_cam", "xgrad_cam", "layer_cam", "eigen_cam", "eigen_grad_cam", "score_cam", "ablation_cam", "attention_rollout", "occlusion", "rise", "kernel_shap", "deep_lift", "lrp")
    SALIENCY_FIELD_NUMBER: _ClassVar[int]
    DECONVNET_FIELD_NUMBER: _ClassVar[int]
    GUIDED_BACKPROP_FIELD_NUMBER: _ClassVar[int]
    GRAD_CAM_FIELD_NUMBER: _ClassVar[int]
    GUIDED_GRAD_CAM_FIELD_NUMBER: _ClassVar[int]
    INPUT_X_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    INTEGRATED_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    SMOOTH_GRAD_FIELD_NUMBER: _ClassVar[int]
    SMOOTH_GRAD_SQUARED_FIELD_NUMBER: _ClassVar[int]
    VAR_GRAD_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_SHAP_FIELD_NUMBER: _ClassVar[int]
    BLUR_IG_FIELD_NUMBER: _ClassVar[int]
    GUIDED_IG_FIELD_NUMBER: _ClassVar[int]
    XRAI_FIELD_NUMBER: _ClassVar[int]
    GRAD_CAM_PLUS_PLUS_FIELD_NUMBER: _ClassVar[int]
    HIRES_CAM_FIELD_NUMBER: _ClassVar[int]
    XGRAD_CAM_FIELD_NUMBER: _ClassVar[int]
    LAYER_CAM_FIELD_NUMBER: _ClassVar[int]
    EIGEN_CAM_FIELD_NUMBER: _ClassVar[int]
    EIGEN_GRAD_CAM_FIELD_NUMBER: _ClassVar[int]
    SCORE_CAM_FIELD_NUMBER: _ClassVar[int]
    ABLATION_CAM_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    OCCLUSION_FIELD_NUMBER: _ClassVar[int]
    RISE_FIELD_NUMBER: _ClassVar[int]
    KERNEL_SHAP_FIELD_NUMBER: _ClassVar[int]
    DEEP_LIFT_FIELD_NUMBER: _ClassVar[int]
    LRP_FIELD_NUMBER: _ClassVar[int]
    saliency: Saliency
    deconvnet: Deconvnet
    guided_backprop: GuidedBackprop
    grad_cam: GradCam
    guided_grad_cam: GuidedGradCam
    input_x_gradient: InputXGradient
    integrated_gradients: IntegratedGradients
    smooth_grad: SmoothGrad
    smooth_grad_squared: SmoothGradSquared
    var_grad: VarGrad
    gradient_shap: GradientShap
    blur_ig: BlurIg
    guided_ig: GuidedIg
    xrai: Xrai
    grad_cam_plus_plus: GradCamPlusPlus
    hires_cam: HiresCam
    xgrad_cam: XgradCam
    layer_cam: LayerCam
    eigen_cam: EigenCam
    eigen_grad_cam: EigenGradCam
    score_cam: ScoreCam
    ablation_cam: AblationCam
    attention_rollout: AttentionRollout
    occlusion: Occlusion
    rise: Rise
    kernel_shap: KernelShap
    deep_lift: DeepLift
    lrp: Lrp
    def __init__(self, saliency: _Optional[_Union[Saliency, _Mapping]] = ..., deconvnet: _Optional[_Union[Deconvnet, _Mapping]] = ..., guided_backprop: _Optional[_Union[GuidedBackprop, _Mapping]] = ..., grad_cam: _Optional[_Union[GradCam, _Mapping]] = ..., guided_grad_cam: _Optional[_Union[GuidedGradCam, _Mapping]] = ..., input_x_gradient: _Optional[_Union[InputXGradient, _Mapping]] = ..., integrated_gradients: _Optional[_Union[IntegratedGradients, _Mapping]] = ..., smooth_grad: _Optional[_Union[SmoothGrad, _Mapping]] = ..., smooth_grad_squared: _Optional[_Union[SmoothGradSquared, _Mapping]] = ..., var_grad: _Optional[_Union[VarGrad, _Mapping]] = ..., gradient_shap: _Optional[_Union[GradientShap, _Mapping]] = ..., blur_ig: _Optional[_Union[BlurIg, _Mapping]] = ..., guided_ig: _Optional[_Union[GuidedIg, _Mapping]] = ..., xrai: _Optional[_Union[Xrai, _Mapping]] = ..., grad_cam_plus_plus: _Optional[_Union[GradCamPlusPlus, _Mapping]] = ..., hires_cam: _Optional[_Union[HiresCam, _Mapping]] = ..., xgrad_cam: _Optional[_Union[XgradCam, _Mapping]] = ..., layer_cam: _Optional[_Union[LayerCam, _Mapping]] = ..., eigen_cam: _Optional[_Union[EigenCam, _Mapping]] = ..., eigen_grad_cam: _Optional[_Union[EigenGradCam, _Mapping]] = ..., score_cam: _Optional[_Union[ScoreCam, _Mapping]] = ..., ablation_cam: _Optional[_Union[AblationCam, _Mapping]] = ..., attention_rollout: _Optional[_Union[AttentionRollout, _Mapping]] = ..., occlusion: _Optional[_Union[Occlusion, _Mapping]] = ..., rise: _Optional[_Union[Rise, _Mapping]] = ..., kernel_shap: _Optional[_Union[KernelShap, _Mapping]] = ..., deep_lift: _Optional[_Union[DeepLift, _Mapping]] = ..., lrp: _Optional[_Union[Lrp, _Mapping]] = ...) -> None: ...

class Baseline(_message.Message):
    __slots__ = ("black", "white", "mean", "blurred", "image")
    BLACK_FIELD_NUMBER: _ClassVar[int]
    WHITE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    BLURRED_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    black: BlackBaseline
    white: WhiteBaseline
    mean: MeanBaseline
    blurred: BlurredBaseline
    image: _image_pb2.Image
    def __init__(self, black: _Optional[_Union[BlackBaseline, _Mapping]] = ..., white: _Optional[_Union[WhiteBaseline, _Mapping]] = ..., mean: _Optional[_Union[MeanBaseline, _Mapping]] = ..., blurred: _Optional[_Union[BlurredBaseline, _Mapping]] = ..., image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ...) -> None: ...

class BlackBaseline(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WhiteBaseline(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MeanBaseline(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BlurredBaseline(_message.Message):
    __slots__ = ("sigma_px",)
    SIGMA_PX_FIELD_NUMBER: _ClassVar[int]
    sigma_px: float
    def __init__(self, sigma_px: _Optional[float] = ...) -> None: ...

class Saliency(_message.Message):
    __slots__ = ("reduction",)
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    reduction: ChannelReduction
    def __init__(self, reduction: _Optional[_Union[ChannelReduction, str]] = ...) -> None: ...

class Deconvnet(_message.Message):
    __slots__ = ("reduction",)
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    reduction: ChannelReduction
    def __init__(self, reduction: _Optional[_Union[ChannelReduction, str]] = ...) -> None: ...

class GuidedBackprop(_message.Message):
    __slots__ = ("reduction",)
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    reduction: ChannelReduction
    def __init__(self, reduction: _Optional[_Union[ChannelReduction, str]] = ...) -> None: ...

class GradCam(_message.Message):
    __slots__ = ("layers", "relu", "interpolation", "normalization", "augmentation_smoothing")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    relu: bool
    interpolation: Interpolation
    normalization: CamNormalization
    augmentation_smoothing: bool
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., relu: bool = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., normalization: _Optional[_Union[CamNormalization, str]] = ..., augmentation_smoothing: bool = ...) -> None: ...

class GuidedGradCam(_message.Message):
    __slots__ = ("layers", "reduction", "interpolation")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    reduction: ChannelReduction
    interpolation: Interpolation
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., reduction: _Optional[_Union[ChannelReduction, str]] = ..., interpolation: _Optional[_Union[Interpolation, str]] = ...) -> None: ...

class InputXGradient(_message.Message):
    __slots__ = ("reduction",)
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    reduction: ChannelReduction
    def __init__(self, reduction: _Optional[_Union[ChannelReduction, str]] = ...) -> None: ...

class IntegratedGradients(_message.Message):
    __slots__ = ("reduction", "step_count", "baselines", "spacing")
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    BASELINES_FIELD_NUMBER: _ClassVar[int]
    SPACING_FIELD_NUMBER: _ClassVar[int]
    reduction: ChannelReduction
    step_count: int
    baselines: _containers.RepeatedCompositeFieldContainer[Baseline]
    spacing: PathSpacing
    def __init__(self, reduction: _Optional[_Union[ChannelReduction, str]] = ..., step_count: _Optional[int] = ..., baselines: _Optional[_Iterable[_Union[Baseline, _Mapping]]] = ..., spacing: _Optional[_Union[PathSpacing, str]] = ...) -> None: ...

class SmoothGrad(_message.Message):
    __slots__ = ("noisy_sample_count", "noise_sigma", "around")
    NOISY_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    NOISE_SIGMA_FIELD_NUMBER: _ClassVar[int]
    AROUND_FIELD_NUMBER: _ClassVar[int]
    noisy_sample_count: int
    noise_sigma: float
    around: Method
    def __init__(self, noisy_sample_count: _Optional[int] = ..., noise_sigma: _Optional[float] = ..., around: _Optional[_Union[Method, _Mapping]] = ...) -> None: ...

class SmoothGradSquared(_message.Message):
    __slots__ = ("noisy_sample_count", "noise_sigma", "around")
    NOISY_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    NOISE_SIGMA_FIELD_NUMBER: _ClassVar[int]
    AROUND_FIELD_NUMBER: _ClassVar[int]
    noisy_sample_count: int
    noise_sigma: float
    around: Method
    def __init__(self, noisy_sample_count: _Optional[int] = ..., noise_sigma: _Optional[float] = ..., around: _Optional[_Union[Method, _Mapping]] = ...) -> None: ...

class VarGrad(_message.Message):
    __slots__ = ("noisy_sample_count", "noise_sigma", "around")
    NOISY_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    NOISE_SIGMA_FIELD_NUMBER: _ClassVar[int]
    AROUND_FIELD_NUMBER: _ClassVar[int]
    noisy_sample_count: int
    noise_sigma: float
    around: Method
    def __init__(self, noisy_sample_count: _Optional[int] = ..., noise_sigma: _Optional[float] = ..., around: _Optional[_Union[Method, _Mapping]] = ...) -> None: ...

class GradientShap(_message.Message):
    __slots__ = ("noisy_sample_count", "noise_sigma", "baselines", "reduction")
    NOISY_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    NOISE_SIGMA_FIELD_NUMBER: _ClassVar[int]
    BASELINES_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    noisy_sample_count: int
    noise_sigma: float
    baselines: _containers.RepeatedCompositeFieldContainer[Baseline]
    reduction: ChannelReduction
    def __init__(self, noisy_sample_count: _Optional[int] = ..., noise_sigma: _Optional[float] = ..., baselines: _Optional[_Iterable[_Union[Baseline, _Mapping]]] = ..., reduction: _Optional[_Union[ChannelReduction, str]] = ...) -> None: ...

class BlurIg(_message.Message):
    __slots__ = ("step_count", "max_sigma_px", "reduction")
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_SIGMA_PX_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    step_count: int
    max_sigma_px: float
    reduction: ChannelReduction
    def __init__(self, step_count: _Optional[int] = ..., max_sigma_px: _Optional[float] = ..., reduction: _Optional[_Union[ChannelReduction, str]] = ...) -> None: ...

class GuidedIg(_message.Message):
    __slots__ = ("step_count", "fraction", "baselines", "max_distance", "reduction")
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    BASELINES_FIELD_NUMBER: _ClassVar[int]
    MAX_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    step_count: int
    fraction: float
    baselines: _containers.RepeatedCompositeFieldContainer[Baseline]
    max_distance: float
    reduction: ChannelReduction
    def __init__(self, step_count: _Optional[int] = ..., fraction: _Optional[float] = ..., baselines: _Optional[_Iterable[_Union[Baseline, _Mapping]]] = ..., max_distance: _Optional[float] = ..., reduction: _Optional[_Union[ChannelReduction, str]] = ...) -> None: ...

class Xrai(_message.Message):
    __slots__ = ("step_count", "baselines")
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    BASELINES_FIELD_NUMBER: _ClassVar[int]
    step_count: int
    baselines: _containers.RepeatedCompositeFieldContainer[Baseline]
    def __init__(self, step_count: _Optional[int] = ..., baselines: _Optional[_Iterable[_Union[Baseline, _Mapping]]] = ...) -> None: ...

class GradCamPlusPlus(_message.Message):
    __slots__ = ("layers", "relu", "interpolation", "normalization", "augmentation_smoothing")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    relu: bool
    interpolation: Interpolation
    normalization: CamNormalization
    augmentation_smoothing: bool
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., relu: bool = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., normalization: _Optional[_Union[CamNormalization, str]] = ..., augmentation_smoothing: bool = ...) -> None: ...

class HiresCam(_message.Message):
    __slots__ = ("layers", "relu", "interpolation", "normalization", "augmentation_smoothing")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    relu: bool
    interpolation: Interpolation
    normalization: CamNormalization
    augmentation_smoothing: bool
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., relu: bool = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., normalization: _Optional[_Union[CamNormalization, str]] = ..., augmentation_smoothing: bool = ...) -> None: ...

class XgradCam(_message.Message):
    __slots__ = ("layers", "relu", "interpolation", "normalization", "augmentation_smoothing")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    relu: bool
    interpolation: Interpolation
    normalization: CamNormalization
    augmentation_smoothing: bool
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., relu: bool = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., normalization: _Optional[_Union[CamNormalization, str]] = ..., augmentation_smoothing: bool = ...) -> None: ...

class LayerCam(_message.Message):
    __slots__ = ("layers", "relu", "interpolation", "normalization", "augmentation_smoothing")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    relu: bool
    interpolation: Interpolation
    normalization: CamNormalization
    augmentation_smoothing: bool
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., relu: bool = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., normalization: _Optional[_Union[CamNormalization, str]] = ..., augmentation_smoothing: bool = ...) -> None: ...

class EigenCam(_message.Message):
    __slots__ = ("layers", "relu", "interpolation", "normalization", "augmentation_smoothing")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    relu: bool
    interpolation: Interpolation
    normalization: CamNormalization
    augmentation_smoothing: bool
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., relu: bool = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., normalization: _Optional[_Union[CamNormalization, str]] = ..., augmentation_smoothing: bool = ...) -> None: ...

class EigenGradCam(_message.Message):
    __slots__ = ("layers", "relu", "interpolation", "normalization", "augmentation_smoothing")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    relu: bool
    interpolation: Interpolation
    normalization: CamNormalization
    augmentation_smoothing: bool
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., relu: bool = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., normalization: _Optional[_Union[CamNormalization, str]] = ..., augmentation_smoothing: bool = ...) -> None: ...

class ScoreCam(_message.Message):
    __slots__ = ("layers", "relu", "interpolation", "normalization", "augmentation_smoothing", "channel_count")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    relu: bool
    interpolation: Interpolation
    normalization: CamNormalization
    augmentation_smoothing: bool
    channel_count: int
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., relu: bool = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., normalization: _Optional[_Union[CamNormalization, str]] = ..., augmentation_smoothing: bool = ..., channel_count: _Optional[int] = ...) -> None: ...

class AblationCam(_message.Message):
    __slots__ = ("layers", "relu", "interpolation", "normalization", "augmentation_smoothing", "channel_count")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    relu: bool
    interpolation: Interpolation
    normalization: CamNormalization
    augmentation_smoothing: bool
    channel_count: int
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., relu: bool = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., normalization: _Optional[_Union[CamNormalization, str]] = ..., augmentation_smoothing: bool = ..., channel_count: _Optional[int] = ...) -> None: ...

class AttentionRollout(_message.Message):
    __slots__ = ("head_fusion", "discard_ratio", "interpolation")
    HEAD_FUSION_FIELD_NUMBER: _ClassVar[int]
    DISCARD_RATIO_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    head_fusion: HeadFusion
    discard_ratio: float
    interpolation: Interpolation
    def __init__(self, head_fusion: _Optional[_Union[HeadFusion, str]] = ..., discard_ratio: _Optional[float] = ..., interpolation: _Optional[_Union[Interpolation, str]] = ...) -> None: ...

class Occlusion(_message.Message):
    __slots__ = ("window_px", "stride_px", "baseline")
    WINDOW_PX_FIELD_NUMBER: _ClassVar[int]
    STRIDE_PX_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    window_px: int
    stride_px: int
    baseline: Baseline
    def __init__(self, window_px: _Optional[int] = ..., stride_px: _Optional[int] = ..., baseline: _Optional[_Union[Baseline, _Mapping]] = ...) -> None: ...

class Rise(_message.Message):
    __slots__ = ("mask_count", "grid_size", "keep_probability", "baseline")
    MASK_COUNT_FIELD_NUMBER: _ClassVar[int]
    GRID_SIZE_FIELD_NUMBER: _ClassVar[int]
    KEEP_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    mask_count: int
    grid_size: int
    keep_probability: float
    baseline: Baseline
    def __init__(self, mask_count: _Optional[int] = ..., grid_size: _Optional[int] = ..., keep_probability: _Optional[float] = ..., baseline: _Optional[_Union[Baseline, _Mapping]] = ...) -> None: ...

class KernelShap(_message.Message):
    __slots__ = ("sample_count", "segment_count", "segmentation", "baseline")
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    sample_count: int
    segment_count: int
    segmentation: Segmentation
    baseline: Baseline
    def __init__(self, sample_count: _Optional[int] = ..., segment_count: _Optional[int] = ..., segmentation: _Optional[_Union[Segmentation, str]] = ..., baseline: _Optional[_Union[Baseline, _Mapping]] = ...) -> None: ...

class DeepLift(_message.Message):
    __slots__ = ("reduction", "baselines")
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    BASELINES_FIELD_NUMBER: _ClassVar[int]
    reduction: ChannelReduction
    baselines: _containers.RepeatedCompositeFieldContainer[Baseline]
    def __init__(self, reduction: _Optional[_Union[ChannelReduction, str]] = ..., baselines: _Optional[_Iterable[_Union[Baseline, _Mapping]]] = ...) -> None: ...

class Lrp(_message.Message):
    __slots__ = ("reduction", "composite", "flat", "epsilon", "gamma", "alpha")
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    COMPOSITE_FIELD_NUMBER: _ClassVar[int]
    FLAT_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    reduction: ChannelReduction
    composite: LrpComposite
    flat: bool
    epsilon: float
    gamma: float
    alpha: float
    def __init__(self, reduction: _Optional[_Union[ChannelReduction, str]] = ..., composite: _Optional[_Union[LrpComposite, str]] = ..., flat: bool = ..., epsilon: _Optional[float] = ..., gamma: _Optional[float] = ..., alpha: _Optional[float] = ...) -> None: ...

class OverlayOptions(_message.Message):
    __slots__ = ("format", "color_map", "polarity", "opacity", "clip_percent_lowerbound", "clip_percent_upperbound", "background", "type", "contour_percent", "legend")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    COLOR_MAP_FIELD_NUMBER: _ClassVar[int]
    POLARITY_FIELD_NUMBER: _ClassVar[int]
    OPACITY_FIELD_NUMBER: _ClassVar[int]
    CLIP_PERCENT_LOWERBOUND_FIELD_NUMBER: _ClassVar[int]
    CLIP_PERCENT_UPPERBOUND_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CONTOUR_PERCENT_FIELD_NUMBER: _ClassVar[int]
    LEGEND_FIELD_NUMBER: _ClassVar[int]
    format: _image_pb2.ImageFormat
    color_map: str
    polarity: Polarity
    opacity: float
    clip_percent_lowerbound: float
    clip_percent_upperbound: float
    background: OverlayBackground
    type: OverlayType
    contour_percent: float
    legend: bool
    def __init__(self, format: _Optional[_Union[_image_pb2.ImageFormat, str]] = ..., color_map: _Optional[str] = ..., polarity: _Optional[_Union[Polarity, str]] = ..., opacity: _Optional[float] = ..., clip_percent_lowerbound: _Optional[float] = ..., clip_percent_upperbound: _Optional[float] = ..., background: _Optional[_Union[OverlayBackground, str]] = ..., type: _Optional[_Union[OverlayType, str]] = ..., contour_percent: _Optional[float] = ..., legend: bool = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("method", "target", "heatmap", "overlay", "layers", "trust", "approximation_error", "target_description")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    HEATMAP_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    APPROXIMATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    TARGET_DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    method: str
    target: _common_pb2.ClassScore
    heatmap: _image_pb2.Tensor
    overlay: _image_pb2.Picture
    layers: _containers.RepeatedScalarFieldContainer[str]
    trust: TrustReport
    approximation_error: float
    target_description: str
    def __init__(self, method: _Optional[str] = ..., target: _Optional[_Union[_common_pb2.ClassScore, _Mapping]] = ..., heatmap: _Optional[_Union[_image_pb2.Tensor, _Mapping]] = ..., overlay: _Optional[_Union[_image_pb2.Picture, _Mapping]] = ..., layers: _Optional[_Iterable[str]] = ..., trust: _Optional[_Union[TrustReport, _Mapping]] = ..., approximation_error: _Optional[float] = ..., target_description: _Optional[str] = ...) -> None: ...

class TrustOptions(_message.Message):
    __slots__ = ("transforms", "step_count", "sample_count")
    TRANSFORMS_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    transforms: _containers.RepeatedCompositeFieldContainer[Transform]
    step_count: int
    sample_count: int
    def __init__(self, transforms: _Optional[_Iterable[_Union[Transform, _Mapping]]] = ..., step_count: _Optional[int] = ..., sample_count: _Optional[int] = ...) -> None: ...

class Transform(_message.Message):
    __slots__ = ("horizontal_flip", "translation", "rotation")
    HORIZONTAL_FLIP_FIELD_NUMBER: _ClassVar[int]
    TRANSLATION_FIELD_NUMBER: _ClassVar[int]
    ROTATION_FIELD_NUMBER: _ClassVar[int]
    horizontal_flip: HorizontalFlip
    translation: Translation
    rotation: Rotation
    def __init__(self, horizontal_flip: _Optional[_Union[HorizontalFlip, _Mapping]] = ..., translation: _Optional[_Union[Translation, _Mapping]] = ..., rotation: _Optional[_Union[Rotation, _Mapping]] = ...) -> None: ...

class HorizontalFlip(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Translation(_message.Message):
    __slots__ = ("x_px", "y_px")
    X_PX_FIELD_NUMBER: _ClassVar[int]
    Y_PX_FIELD_NUMBER: _ClassVar[int]
    x_px: int
    y_px: int
    def __init__(self, x_px: _Optional[int] = ..., y_px: _Optional[int] = ...) -> None: ...

class Rotation(_message.Message):
    __slots__ = ("degrees",)
    DEGREES_FIELD_NUMBER: _ClassVar[int]
    degrees: float
    def __init__(self, degrees: _Optional[float] = ...) -> None: ...

class TrustReport(_message.Message):
    __slots__ = ("consistencies", "insertion_auc", "deletion_auc", "completeness_error", "sensitivity_max", "infidelity", "verdict", "summary")
    CONSISTENCIES_FIELD_NUMBER: _ClassVar[int]
    INSERTION_AUC_FIELD_NUMBER: _ClassVar[int]
    DELETION_AUC_FIELD_NUMBER: _ClassVar[int]
    COMPLETENESS_ERROR_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_MAX_FIELD_NUMBER: _ClassVar[int]
    INFIDELITY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    consistencies: _containers.RepeatedCompositeFieldContainer[Consistency]
    insertion_auc: float
    deletion_auc: float
    completeness_error: float
    sensitivity_max: float
    infidelity: float
    verdict: Verdict
    summary: str
    def __init__(self, consistencies: _Optional[_Iterable[_Union[Consistency, _Mapping]]] = ..., insertion_auc: _Optional[float] = ..., deletion_auc: _Optional[float] = ..., completeness_error: _Optional[float] = ..., sensitivity_max: _Optional[float] = ..., infidelity: _Optional[float] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., summary: _Optional[str] = ...) -> None: ...

class Consistency(_message.Message):
    __slots__ = ("transform", "prediction", "target_probability", "rank_correlation", "top_area_overlap")
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    TARGET_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    RANK_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    TOP_AREA_OVERLAP_FIELD_NUMBER: _ClassVar[int]
    transform: Transform
    prediction: _common_pb2.ClassScore
    target_probability: float
    rank_correlation: float
    top_area_overlap: float
    def __init__(self, transform: _Optional[_Union[Transform, _Mapping]] = ..., prediction: _Optional[_Union[_common_pb2.ClassScore, _Mapping]] = ..., target_probability: _Optional[float] = ..., rank_correlation: _Optional[float] = ..., top_area_overlap: _Optional[float] = ...) -> None: ...
