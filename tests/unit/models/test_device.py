"""Devices by their names, and those that are not there."""

import pytest
import torch

from gradserve_server.models.device import device_of
from gradserve_server.models.failure import ModelLoadError


def test_a_device_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("auto") == torch.device("cuda:0")
    assert device_of("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("name", "gpus", "said"),
    [
        ("foo", 0, "no device 'foo': use cpu, cuda:0 or auto"),
        ("cuda:0", 0, "no GPU that torch can use; use cpu or auto"),
        ("cuda:1", 1, "there is cuda:0; use cpu, cuda:0 or auto"),
        ("cuda:7", 4, "there is cuda:0 to cuda:3"),
        ("mps", 0, "no device 'mps'"),
    ],
)
def test_one_that_is_not_is_named(name: str, gpus: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ModelLoadError) as caught:
        device_of(name)
    assert said in str(caught.value)
