"""The job that explains a folder of images on a real Ray cluster: survives the death of a worker, and its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import PHOTOGRAPHS, photograph
from tests.deploy.manifests import DEPLOY
from tests.deploy.processes import until
from tests.serving import served

from gradserve import Client

pytestmark = [pytest.mark.deploy, pytest.mark.ray, pytest.mark.timeout(900)]

JOB = DEPLOY / "ray/explain_images.py"
COUNT = 500


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five hundred different images, cut out of photographs, and a file that is none."""
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for index in range(COUNT):
        pixels = photograph(PHOTOGRAPHS[index % len(PHOTOGRAPHS)])
        top, left = (draw.integers(0, side - 200) for side in pixels.shape[:2])
        path = folder / f"{index % 7}/{index:03}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[top : top + 200, left : left + 200]).save(path, quality=95)
    (folder / "none.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def output(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The results of a job whose worker was killed, that was then killed itself, and was run again."""
    folder = tmp_path_factory.mktemp("results") / "explained"
    first = Job(source, folder)
    try:
        worker = first.worker()
        until(lambda: len(parts(folder)) >= 2, "the first parts", 300)
        os.kill(worker, signal.SIGKILL)
        before = len(parts(folder))
        assert first.worker(after=worker) != worker
        until(lambda: len(parts(folder)) >= before + 2, "parts by another worker", 300)
    finally:
        first.kill()
    there = len(_rows(folder))
    second = Job(source, folder)
    assert second.process.wait(600) == 0, second.said()
    resumed = re.search(r"(\d+) images are explained, (\d+) to go", second.said())
    assert resumed, second.said()
    explained, left = map(int, resumed.groups())
    # A worker outlives its killed driver by a moment, and may finish a part.
    assert there <= explained < COUNT, "it was to be killed on its way"
    assert left == COUNT + 1 - explained
    assert "1 could not be read" in second.said()
    yield folder


class Job:
    """A run of the job."""

    def __init__(self, source: Path, output: Path, *more: str) -> None:
        output.parent.mkdir(exist_ok=True, parents=True)
        self._log = output.parent / f"log-{os.urandom(4).hex()}"
        flags = ["--batch", "20", "--pass-rows", "4", "--overlays", *more]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, JOB, source, output, *flags],
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Ray makes its workers the last to be served; a busy machine would never get to them.
                env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_worker_niceness": "0"},
            )

    def said(self) -> str:
        """Returns what it has written so far."""
        return self._log.read_text()

    def worker(self, after: int | None = None) -> int:
        """Returns the process of its newest worker, once there is one other than `after`."""

        def found() -> list[int]:
            return [int(number) for number in re.findall(r"explaining in process (\d+)", self.said())]

        until(lambda: (bool(found()) and found()[-1] != after) or self.process.poll() is not None, "a worker", 300)
        assert self.process.poll() is None, self.said()
        return found()[-1]

    def kill(self) -> None:
        """Kills it and the cluster it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def parts(folder: Path) -> list[Path]:
    return list(folder.glob("part-*.parquet"))


def test_each_image_is_explained_once(source: Path, output: Path) -> None:
    rows = _rows(output)
    paths = [row["path"] for row in rows]
    assert len(paths) == len(set(paths)) == COUNT + 1
    assert set(paths) == {str(path.relative_to(source)) for path in source.rglob("*.jpg")}
    assert [row["path"] for row in rows if row["error"]] == ["none.jpg"]
    for row in rows:
        if not row["error"]:
            with Image.open(output / row["overlay"]) as overlay:
                assert overlay.size == (row["width"], row["height"])


def test_answers_are_the_service_s(source: Path, output: Path) -> None:
    rows = {row["path"]: row for row in _rows(output) if not row["error"]}
    with served(pass_rows=4) as server, Client(f"127.0.0.1:{server.port}") as client:
        for path in sorted(rows)[::20]:
            row = rows[path]
            expected = client.explain(source / path, method="grad_cam", frame="model_input", seed=0)
            assert expected.target
            assert (row["target_index"], row["target_label"]) == (expected.target.index, expected.target.label)
            assert row["model_version"] == expected.metadata.model_version
            found = np.frombuffer(row["heatmap"], "<f4").reshape(row["height"], row["width"])
            # The company of a row in its pass changes its rounding, in float32.
            assert np.abs(found - expected.heatmap).max() <= 1e-2 * np.ptp(expected.heatmap)


def test_nothing_is_left_to_do(source: Path, output: Path) -> None:
    again = Job(source, output)
    assert again.process.wait(120) == 0
    assert f"{COUNT + 1} images are explained, 0 to go" in again.said()


def test_a_folder_belongs_to_one_task(source: Path, output: Path) -> None:
    other = Job(source, output, "--method", "saliency")
    assert other.process.wait(120) == 1
    assert "another task" in other.said()


def _rows(output: Path) -> list[dict]:
    import pyarrow.parquet as parquet

    return [row for part in parts(output) for row in parquet.read_table(part).to_pylist()]
