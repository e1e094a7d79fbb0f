"""The manifests as Kustomize renders them."""

import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from tests.deploy.tools import tool

DEPLOY = Path(__file__).parents[2] / "deploy"
OVERLAYS = sorted(path.name for path in (DEPLOY / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (DEPLOY / "components").iterdir())

Manifest = dict[str, Any]


def render(folder: Path) -> str:
    """Returns what `kubectl kustomize` makes of a folder."""
    done = subprocess.run([tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def overlay(name: str) -> tuple[Manifest, ...]:
    """Returns the manifests of an overlay."""
    return tuple(yaml.safe_load_all(render(DEPLOY / "overlays" / name)))


def with_components(folder: Path, *components: str) -> tuple[Manifest, ...]:
    """Returns the manifests of the base with components, put together in `folder`."""
    deploy = os.path.relpath(DEPLOY, folder.resolve())
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{deploy}/base"],
        "components": [f"{deploy}/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return tuple(yaml.safe_load_all(render(folder)))


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    """Returns the manifests of some kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def explainer(manifests: tuple[Manifest, ...]) -> Manifest:
    """Returns the Deployment of this service."""
    (found,) = [one for one in of_kind(manifests, "Deployment") if one["metadata"]["name"] == "gradserve"]
    return found


def pods(manifests: tuple[Manifest, ...]) -> list[Manifest]:
    """Returns the pod templates of all Deployments."""
    return [deployment["spec"]["template"] for deployment in of_kind(manifests, "Deployment")]


def paths(value: Any, path: str = "") -> Iterator[str]:
    """Yields the path of each leaf; elements of a list share the path of the list."""
    if isinstance(value, dict) and value:
        for key, held in value.items():
            yield from paths(held, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for held in value:
            yield from paths(held, path)
    else:
        yield path
