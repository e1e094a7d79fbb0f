"""What of the documents is not run as it stands, and why."""

from collections.abc import Mapping

CLUSTER = "needs a Kubernetes cluster; tests/deploy renders and checks the manifests"
INSTALLS = "would change the environment that runs the tests; CI installs the package itself"
SUITE = "the demo and the whole suite take minutes; .ci/run runs both"
TRAINS = "trains for the better part of an hour; tests/integration/test_train_stylizer.py trains for some steps"
RANDOMIZES = (
    "computes 80 maps of six photographs; tests/integration/test_sanity_check_command.py runs it on a small network"
)
IMAGE = "builds an image as root; tests/deploy/test_image.py does"
RAY = "needs a Ray cluster; tests/deploy/test_ray.py starts one"
K6 = "needs k6, a program beyond the packages; tests/deploy runs the scenarios"

NOT_RUN: Mapping[tuple[str, str], str] = {
    ("README.md", "make demo"): SUITE,
    ("README.md", "make test"): SUITE,
    ("README.md", "pip install"): INSTALLS,
    ("docs/tutorial.md", "pip install"): INSTALLS,
    ("docs/page.md", "pip install"): INSTALLS,
    ("docs/sanity-check.md", "gradserve-server sanity-check"): RANDOMIZES,
    ("docs/stylizers.md", "python scripts/style_images.py"): TRAINS,
    ("deploy/README.md", "make image"): IMAGE,
    ("deploy/README.md", "kubectl"): CLUSTER,
    ("deploy/README.md", "k6"): K6,
    ("deploy/README.md", "python deploy/ray"): RAY,
}
"""Reasons by document and by how a command, or a whole block, begins."""

TRIED_ELSEWHERE: Mapping[str, str] = {
    "docs/add-a-method.md": "tests/docs/test_add_a_method.py",
    "docs/models.md": "tests/integration/test_models_document.py",
    "docs/other-languages.md": "tests/integration/test_other_languages.py",
    "docs/security.md": "tests/docs/test_security.py",
}
"""Documents that a test of their own follows."""

SHORTER: Mapping[str, tuple[tuple[str, str], ...]] = {
    "deploy/README.md": (("--address ... load", "load"), ("--rate 5,10,20,40 --seconds 30", "--rate 2,4 --seconds 2")),
    "docs/maximize.md": (
        ('preset="lucid")', 'preset="lucid", steps=16)'),
        ("--preset lucid", "--preset lucid --steps 16"),
    ),
    "docs/stylize.md": (
        ('"night.jpg")', '"night.jpg", steps=10)'),
        ("size=512)", "size=96, steps=10)"),
        ('mask="right_half.png")', 'mask="right_half.png", steps=10)'),
        ("--style night.jpg --output", "--style night.jpg --steps 10 --output"),
        ("--size 512", "--size 96 --steps 10"),
    ),
    "docs/stylizers.md": (
        ("--samples samples/", "--samples samples/ --steps 2 --size 64 --batch-size 1 --width 0.25 --style-size 64"),
    ),
}
"""What is asked with smaller numbers, so that it takes seconds on a CPU: what stands there, and what runs."""
