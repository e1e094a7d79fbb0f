"""Programs that these tests run, and where they come from."""

import shutil

SOURCES = {
    "buildah": "Debian's buildah",
    "debootstrap": "Debian's debootstrap",
    "haproxy": "Debian's haproxy",
    "k6": "the extra `deploy`",
    "kubectl": "Kubernetes, 1.27 or newer",
    "kubernetes-validate": "the extra `deploy`",
    "hadolint": "the extra `deploy`",
    "prometheus": "Debian's prometheus",
    "promtool": "Debian's prometheus",
}


def tool(name: str) -> str:
    """Returns the path of a program; an error says what to install."""
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is missing; it comes with {SOURCES[name]}")
    return found
