"""What a repository folder and a `models.toml` say."""

from pathlib import Path

import pytest
from tests.repository import CONFIG, put

from gradserve_server.models.failure import ModelLoadError
from gradserve_server.models.folder import Listing, read_folder
from gradserve_server.models.preprocessing import Preprocessing
from gradserve_server.models.repository import read_specs
from gradserve_server.models.specification import Allowed, ModelSpec, embedded_spec, spec_of

ALLOWED = Allowed()


def listing(folder: Path, text: str, versions: tuple[str, ...] = ("1", "2", "10")) -> Listing:
    put(folder / "net" / "config.toml", text)
    for version in versions:
        put(folder / "net" / version / "weights.safetensors", b"")
    (found,) = read_folder(folder, ALLOWED)
    return found


@pytest.mark.parametrize(
    ("policy", "numbers", "every"),
    [
        ("", [10, 2, 1], False),
        ('versions = "latest"', [10, 2, 1], False),
        ('versions = "all"', [10, 2, 1], True),
        ("versions = [1, 2]", [2, 1], True),
    ],
)
def test_policies(tmp_path: Path, policy: str, numbers: list[int], every: bool) -> None:
    found = listing(tmp_path, f"{policy}\n{CONFIG}", versions=("1", "2", "10", "draft", "02", "0"))
    assert [candidate.spec.number for candidate in found.candidates] == numbers
    assert found.every is every


@pytest.mark.parametrize("name", ["", "two words", "net@2", "line\nbreak"])
def test_a_name_that_no_caller_could_give_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelLoadError, match="no space and no @"):
        spec_of({"name": name}, tmp_path, ALLOWED)
    assert spec_of({"name": "Organisation/net-2.v1"}, tmp_path, ALLOWED).name == "Organisation/net-2.v1"


def test_a_folder_says_all_of_a_model(tmp_path: Path) -> None:
    put(tmp_path / "net" / "labels.txt", "cup\nmug\n\nplate\n")
    sha256 = "ab" * 32
    text = (
        f'architecture = "torchvision:resnet18"\nsha256 = {{ 2 = "{sha256}" }}\npin = true\nlimits = {{ targets = 3 }}'
    )
    newest, _ = listing(tmp_path, text, ("1", "2")).candidates
    assert newest.spec == ModelSpec(
        name="net",
        architecture="torchvision:resnet18",
        weights=tmp_path / "net" / "2" / "weights.safetensors",
        sha256=sha256,
        class_count=3,
        labels=tmp_path / "net" / "labels.txt",
        preprocessing=Preprocessing(),
        limits={"targets": 3},
        number=2,
        pin=True,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("architecture = ", ["config.toml", "Invalid value"]),
        (f"classes = 3\n{CONFIG}", ["classes", "class_count"]),
        (f'versions = "newest"\n{CONFIG}', ["versions", "latest", "newest"]),
        (f"versions = [3]\n{CONFIG}", ["no version 3", "1, 2, 10"]),
        ('architecture = "torchvision:resnet51"', ["resnet51", "resnet50"]),
        ('architecture = "timm:resnet5o"', ["resnet5o", "resnet50"]),
        ('architecture = "keras:resnet50"', ["keras", "torchvision:NAME"]),
        ('architecture = "python:os:system"', ["--allow-python-models"]),
        ('architecture = "timm:resnet18"\nweights = "https://example.org/w.safetensors"', ["URL"]),
        ('architecture = "torchvision:resnet18"\nweights = "IMAGENET1K_V1"', ["--allow-downloads"]),
        ('architecture = "timm:resnet18"\nweights = "weights.bin"', ["weights.bin", ".safetensors"]),
        (f'class_count = "4"\n{CONFIG.replace("class_count = 4", "")}', ["class_count", "whole number"]),
        (f"limits = {{ pixels = 4 }}\n{CONFIG}", ["pixels", "maximize_pixels"]),
        ('architecture = "timm:resnet18"\npreprocessing = { size = 4 }', ["size", "height"]),
        ('architecture = "timm:resnet18"\npreprocessing = { fit = "stretch" }', ["stretch", "squash"]),
        ('architecture = "timm:resnet18"\npreprocessing = { mean = [1, 2] }', ["three"]),
        ("class_count = 4", ["give the `architecture` that the weights are of"]),
        ('architecture = "timm:resnet18"\nlabels = "names.txt"', ["names.txt"]),
        ('name = "other"\narchitecture = "timm:resnet18"', ["name", "folder"]),
    ],
)
def test_a_mistake_is_said_in_one_line_and_is_that_models_alone(tmp_path: Path, text: str, words: list[str]) -> None:
    put(tmp_path / "good" / "config.toml", CONFIG)
    put(tmp_path / "good" / "1" / "weights.safetensors", b"")
    put(tmp_path / "net" / "config.toml", text)
    for version in ("1", "2", "10"):
        put(tmp_path / "net" / version / "weights.safetensors", b"")
    good, bad = read_folder(tmp_path, ALLOWED)
    assert not good.error
    assert not good.candidates[0].error
    error = bad.error or bad.candidates[0].error
    assert "\n" not in error
    for word in ("net/config.toml", *words):
        assert word in error


def test_versions_that_are_pinned_let_no_other_in(tmp_path: Path) -> None:
    text = "architecture = 'torchvision:resnet18'\nversions = [1, 2]\nsha256 = { 1 = 'ab' }"
    second, first = listing(tmp_path, text).candidates
    assert "sha256 names no version 2" in second.error
    assert (first.error, first.spec.sha256) == ("", "ab")


def test_a_version_whose_weights_are_on_their_way_is_none(tmp_path: Path) -> None:
    text = 'architecture = "embedded:efficientnet_lite0"'
    put(tmp_path / "net" / "2" / "weights.safetensors.partial", b"")
    assert [candidate.spec.number for candidate in listing(tmp_path, text, ("1",)).candidates] == [1]
    # Without weights of one's own, what ships is version 2.
    (tmp_path / "net" / "1" / "weights.safetensors").unlink()
    (found,) = read_folder(tmp_path, ALLOWED)
    assert [candidate.spec.weights for candidate in found.candidates] == [None, None]


def test_a_volume_that_is_not_mounted_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="mounted"):
        read_folder(tmp_path, ALLOWED)


def test_a_changed_file_changes_the_signature(tmp_path: Path) -> None:
    before = listing(tmp_path, CONFIG, ("1",)).candidates[0].signature
    assert listing(tmp_path, CONFIG + "\n", ("1",)).candidates[0].signature != before
    before = listing(tmp_path, CONFIG, ("1",)).candidates[0].signature
    put(tmp_path / "net" / "1" / "weights.safetensors", b"more")
    (found,) = read_folder(tmp_path, ALLOWED)
    assert found.candidates[0].signature != before


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        # As the model cards of both libraries give them.
        ("torchvision:resnet50", Preprocessing(resize=232)),
        ("torchvision:efficientnet_v2_s", Preprocessing(384, 384, 384)),
        ("torchvision:swin_t", Preprocessing(resize=232, interpolation="bicubic")),
        ("timm:resnet50", Preprocessing(resize=235, interpolation="bicubic")),
        (
            "timm:mobilevit_s",
            Preprocessing(256, 256, 284, interpolation="bicubic", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        ),
        (
            "timm:eva02_large_patch14_448",
            Preprocessing(
                *(448, 448, 448, "squash", "bicubic"),
                mean=(0.48145466, 0.4578275, 0.40821073),
                std=(0.26862954, 0.26130258, 0.27577711),
            ),
        ),
    ],
)
def test_preprocessing_is_the_architectures_own(architecture: str, expected: Preprocessing) -> None:
    table = {"name": "net", "architecture": architecture, "weights": "w.safetensors"}
    assert spec_of(table, Path(), ALLOWED).preprocessing == expected


def test_a_smaller_input_keeps_the_margin() -> None:
    table = {"name": "net", "architecture": "torchvision:resnet18", "preprocessing": {"height": 112, "width": 112}}
    assert spec_of(table, Path(), ALLOWED).preprocessing == Preprocessing(112, 112, 128)


def test_a_file_of_models(tmp_path: Path) -> None:
    text = '[[model]]\nname = "a"\n[[model]]\nname = "b"\narchitecture = "timm:resnet18"\nweights = "b.safetensors"'
    put(tmp_path / "models.toml", text)
    first, second = read_specs(tmp_path / "models.toml", ALLOWED)
    assert first.architecture == "embedded:efficientnet_lite0"
    assert second.weights == tmp_path / "b.safetensors"


def test_beside_stylizers_alone_the_embedded_network_is_served(tmp_path: Path) -> None:
    put(tmp_path / "models.toml", '[[stylizer]]\nname = "mosaic"\nweights = "mosaic.safetensors"')
    assert read_specs(tmp_path / "models.toml", ALLOWED) == (embedded_spec(),)
    put(tmp_path / "models.toml", "")
    with pytest.raises(ModelLoadError, match=r"no \[\[model\]\] table"):
        read_specs(tmp_path / "models.toml", ALLOWED)
