"""Score-CAM (Wang et al. 2020, section 3)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.channel_cam import ChannelCam
from gradserve_server.programs.explain.method import Subject


@dataclass(frozen=True)
class ScoreCam(ChannelCam):
    """Activations weighted by the target's score where each channel, enlarged, masks the image.

    The weights are a softmax over channels (algorithm 1). The score of a black image, which the paper subtracts, is the
    same for all channels, so that the softmax does not see it.
    """

    caveat: ClassVar[str] = (
        "Its weights are a softmax of scores: where these are large and differ, a few channels make the whole map."
    )

    def query(self, subject: Subject, layer: str, output: Tensor, channels: Tensor) -> Query:
        """Masks the image by each channel, from 0 at its minimum to 1 at its maximum."""
        masks = self.interpolation(subject.as_grid(layer, output)[0][channels], like=subject.rows)
        masks = masks - masks.amin((1, 2), keepdim=True)
        # The small number is pytorch-grad-cam's: a constant channel masks everything.
        masks = masks / (masks.amax((1, 2), keepdim=True) + 1e-8)
        return Query(subject.rows * masks[:, None], subject.target, gradient=False)

    def weights(self, scores: Tensor, score: Tensor) -> Tensor:
        """Returns the softmax over channels."""
        return scores.softmax(0)
