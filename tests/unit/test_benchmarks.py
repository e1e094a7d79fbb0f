"""What benchmarks count and write."""

import asyncio
import json
import os
import re
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import report
from benchmarks.costs import Count
from benchmarks.results import Row
from benchmarks.running import closed_model, started
from benchmarks.worker_profile import Sample, cpu_seconds, parts

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.query import ActivationRule, Query

MACHINE = {"processor": "abacus", "cores": "2", "python": "3.11", "torch": "2.11.0", "date": "2026-01-01"}
DOCUMENT = Path(report.DOCUMENT)


@pytest.mark.parametrize(
    ("value", "bar", "verdict"),
    [
        (0.9, ">= 0.90", "met"),
        (0.89, ">= 0.90", "MISSED"),
        (3.0, "<= 3", "met"),
        (3.1, "<= 3", "MISSED"),
        (None, "<= 3", "unmeasured"),
        (1.0, "", ""),
    ],
)
def test_a_bar_is_met_or_missed(value: float | None, bar: str, verdict: str) -> None:
    assert Row("what", value, bar).verdict == verdict


def test_tables_are_filled_between_their_markers() -> None:
    document = "before\n<!-- core -->\nold\n<!-- end of core -->\nafter\n"
    rows = [{"what": "cost", "value": 1.25, "bar": "<= 2", "unit": "ms"}]
    filled = report.filled(document, {"core": {"machine": MACHINE, "rows": rows}})
    assert "| cost | 1.25 ms | <= 2 | met |" in filled
    assert "abacus, 2 cores; torch 2.11.0; 2026-01-01." in filled
    assert "old" not in filled
    assert filled.startswith("before\n")
    assert filled.endswith("after\n")
    assert report.filled(filled, {"core": {"machine": MACHINE, "rows": rows}}) == filled


def test_bars_are_summed_up() -> None:
    document = (
        "<!-- summary -->\nold\n<!-- end of summary -->\n## The core, and more\n<!-- core -->\n<!-- end of core -->\n"
        "## Other\n### Within\n<!-- company -->\n| slow | 2.5 | <= 2 | MISSED |\n<!-- end of company -->\n"
        "| by hand | 2.5 | <= 2 | MISSED |\n"
    )
    rows = [{"what": "a", "value": 1.0, "bar": "<= 2"}, {"what": "b", "value": 3.0, "bar": "<= 2", "unit": "ms"}]
    filled = report.filled(document, {"core": {"machine": MACHINE, "rows": [*rows, {"what": "c", "value": 1.0}]}})
    assert "old" not in filled
    assert "| [The core, and more](#the-core-and-more) | 1 of 2 | b: 3 ms (<= 2) |" in filled
    assert "| [Other](#other) | 0 of 1 | slow: 2.5 (<= 2) |" in filled
    assert filled.count("by hand") == 1


def test_a_table_without_a_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="no markers for core"):
        report.filled("nothing", {"core": {"machine": MACHINE, "rows": []}})


def test_the_document_has_a_place_for_every_table() -> None:
    document = DOCUMENT.read_text()
    for name in report.TABLES:
        assert re.search(rf"<!-- {name} -->\n.*?<!-- end of {name} -->", document, re.DOTALL), name


def test_rows_are_counted_once_for_each_forward_and_each_sweep() -> None:
    rows, others = torch.zeros(4, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    count = Count()
    count.add(
        (
            Query(rows, class_score(0)),
            Query(rows, class_score(0)),
            Query(rows, class_score(0), rule=ActivationRule.GUIDED),
            Query(rows, logits=True),
            Query(others, class_score(1), root="layer", capture=("layer",)),
        )
    )
    assert count == Count(forward=6, backward=8, layer=2)


def test_threads_that_compute_are_in_torch_or_outside_it() -> None:
    worker, lane, loop = 11, 12, 10
    samples = [
        *[Sample(worker, "gemm", "libtorch_cpu.so")] * 6,
        *[Sample(worker, "[unknown]", "[unknown]")] * 2,
        Sample(worker, "THPVariable_conv2d", "libtorch_python.so"),
        Sample(worker, "_PyEval_EvalFrameDefault", "libpython3.11.so.1.0"),
        *[Sample(lane, "gomp_barrier_wait", "libgomp.so.1")] * 9,
        Sample(lane, "_PyEval_EvalFrameDefault", "libpython3.11.so.1.0"),
        *[Sample(loop, "epoll_wait", "libc.so.6")] * 50,
        Sample(loop, "gemm", "libtorch_cpu.so"),
    ]
    computing, outside, rest = parts(samples)
    assert computing == {worker, lane}
    assert outside == 3 / 20
    assert rest["libpython3.11.so.1.0, in all"] == 2 / 20
    assert rest["THPVariable_conv2d (libtorch_python.so)"] == 1 / 20
    with pytest.raises(RuntimeError, match="no thread that computes"):
        parts(samples[-50:])


async def test_callers_of_a_closed_model_are_as_many_as_asked() -> None:
    inside, most = 0, 0

    async def call() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1

    found = await closed_model(call, 3, 0.01)
    assert most == 3
    assert inside == 0
    assert found.rate > 0
    assert np.isfinite(found.latencies).all()


def test_each_thread_is_counted_by_itself() -> None:
    """One that burns and one that waits, of one process."""
    burnt, waiting = threading.Event(), threading.Event()
    ready = threading.Barrier(3)
    numbers: dict[str, int] = {}

    def burn() -> None:
        numbers["burns"] = threading.get_native_id()
        ready.wait()
        while time.thread_time() < 0.5:
            pass
        burnt.set()
        waiting.wait()

    def wait() -> None:
        numbers["waits"] = threading.get_native_id()
        ready.wait()
        waiting.wait()

    threads = [threading.Thread(target=work, daemon=True) for work in (burn, wait)]
    for thread in threads:
        thread.start()
    ready.wait()
    burnt.wait()
    found = cpu_seconds(os.getpid(), list(numbers.values()))
    waiting.set()
    for thread in threads:
        thread.join()
    assert found[numbers["burns"]] >= 0.4
    assert found[numbers["waits"]] <= 0.1


def test_a_process_that_does_not_start_says_why() -> None:
    command = [sys.executable, "-c", "print('no such model')"]
    with pytest.raises(RuntimeError, match="no such model"), started(command, "ready"):
        pass


def test_results_are_plain_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.results.OUT", tmp_path)
    from benchmarks.results import save

    save("core", [Row("cost", None, "<= 1")], device="none")
    written = json.loads((tmp_path / "core.json").read_text())
    assert written["rows"] == [{"what": "cost", "value": None, "bar": "<= 1", "unit": ""}]
    assert written["machine"]["cores"]
