"""Methods that look at many images, asked to look at few, where a test goes through all methods."""

from collections.abc import Mapping
from typing import Any

FEWER: Mapping[str, Mapping[str, Any]] = {
    "integrated_gradients": {"step_count": 3},
    "smooth_grad": {"noisy_sample_count": 3},
    "smooth_grad_squared": {"noisy_sample_count": 3},
    "var_grad": {"noisy_sample_count": 3},
    "gradient_shap": {"noisy_sample_count": 3},
    "blur_ig": {"step_count": 3},
    "guided_ig": {"step_count": 3},
    "xrai": {"step_count": 3},
    "occlusion": {"window_px": 112, "stride_px": 56},
    "rise": {"mask_count": 12},
    "kernel_shap": {"segment_count": 4, "sample_count": 14},
}
"""Parameters by the name of the method."""
