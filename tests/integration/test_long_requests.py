"""A request of many rows goes in chunks, and others are answered between them.

`make long-check` shows it of 256 steps of the default model in a process of its own, and that memory stays flat.
"""

from tests.company import alongside
from tests.conftest import jpeg

from gradserve_server.app import Server

ROWS = 8
"""Rows of a pass of the server that the tests share."""
STEPS = 128
GRAD_CAM = {
    "image": jpeg("coffee"),
    "model": "in_float64",
    "method": "grad_cam",
    "overlay": False,
    "frame": "model_input",
}
SALIENCY = {**GRAD_CAM, "method": "saliency"}


async def test_others_are_answered_between_the_chunks_of_integrated_gradients(server: Server, address: str) -> None:
    """Were its steps one pass, or the others behind all of them, two of those would be answered at most while it
    lasts: the one that overtakes it and the one behind it."""
    long = {**GRAD_CAM, "method": "integrated_gradients", "step_count": STEPS}
    explanation, others = await alongside(address, long, [GRAD_CAM, GRAD_CAM, SALIENCY])
    assert explanation.metadata.pass_count >= STEPS / ROWS
    assert explanation.metadata.mean_pass_rows <= ROWS
    assert len(others) >= 6
    assert {other.method for other in others} == {"grad_cam", "saliency"}
    # What ends at the same place of the network goes in the very passes of the chunks.
    assert max(other.metadata.mean_pass_programs for other in others if other.method == "saliency") > 1
    assert explanation.metadata.mean_pass_programs > 1
