"""Each benchmark runs to its end in its shortest mode. What it measures then says nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
OUT = ROOT / "benchmarks" / "out"

SHORTEST = {
    "core": [],
    "architectures": ["--turns=1", "--only", "torchvision:mobilenet_v3_large"],
    "throughput": ["--seconds=0.2", "--turns=1", "--steps=2", "--concurrencies", "1", "16"],
    "server_per_core": ["--seconds=0.2", "--turns=1", "--steps=2"],
    "worker_profile": ["--seconds=2"],
    "maximize_jobs": ["--steps=2", "--turns=1"],
    "company": ["--rate=2", "--requests=4", "--turns=1", "--only", "6 Stylize, 128 px"],
    "overload": ["--request-seconds=0.2", "--seconds=1", "--knee-seconds=1"],
    "costs": ["--seconds=0", "--methods", "saliency", "grad_cam", "attention_rollout"],
    "gpu": ["--device=cpu", "--steps=2", "--turns=1", "--repeats=1", "--only"],
    "versions": [str(ROOT), "--seconds=0.2", "--turns=1", "--methods", "saliency"],
    "peers": ["--only", "plain", "plain-best", "--seconds=0.2", "--turns=1", "--steps=2"],
}


@pytest.mark.bench
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SHORTEST)
def test_a_benchmark_runs_to_its_end(name: str) -> None:
    results = OUT / f"{name}.json"
    results.unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *SHORTEST[name]], cwd=ROOT, check=True)
    rows = json.loads(results.read_text())["rows"]
    assert rows
    assert all(row["value"] is not None for row in rows)


@pytest.mark.bench
def test_without_a_gpu_its_rows_are_unmeasured() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env=dict(os.environ) | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert "no GPU here: unmeasured" in ended.stdout
    rows = json.loads((OUT / "gpu.json").read_text())["rows"]
    assert rows
    assert all(row["value"] is None for row in rows)
