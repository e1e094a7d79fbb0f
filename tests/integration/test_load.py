"""The command `gradserve load` against a real server."""

from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import jpeg
from tests.serving import sample

from gradserve.cli import main
from gradserve_server.app import SERVICE, Server


def _handled(server: Server, code: str) -> float:
    labels = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": "Explain", "grpc_code": code}
    return sample(server, "grpc_server_handled_total", **labels)


def test_rates_one_after_another_with_a_plot(
    server: Server, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "coffee.jpg", tmp_path / "rocket.jpg"]
    for path in paths:
        path.write_bytes(jpeg(path.stem))
    before = _handled(server, "OK")
    flags = ["--rate", "8,16", "--seconds", "0.5", "--no-overlay", "--plot", str(tmp_path / "load.png")]
    assert main(["--address", address, "load", *map(str, paths), *flags]) == 0
    head, first, second, found, _ = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["offered/s", "answered/s", "p50"]
    assert first.endswith("4 OK")
    assert second.endswith("8 OK")
    assert found.startswith("knee")
    assert _handled(server, "OK") - before == 12
    with Image.open(tmp_path / "load.png") as plot:
        assert plot.size == (1100, 520)


def test_what_fails_is_counted_by_code(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.jpg").write_bytes(b"no image")
    assert main(["--address", address, "load", str(tmp_path / "x.jpg"), "--rate", "10", "--seconds", "0.3"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("3 INVALID_ARGUMENT")
