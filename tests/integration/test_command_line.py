"""The command `gradserve`, as a person types it."""

import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from html.parser import HTMLParser
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tests.conftest import jpeg, photograph

from gradserve import Client
from gradserve.cli import main
from gradserve.commands.gallery import Gallery

SMALL = ["--model", "in_float64"]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def gradserve(address: str, *arguments: str, input: bytes = b"") -> Done:
    """Runs the command in this process: a process of its own spends its time on importing."""
    with (
        redirect_stdout(StringIO()) as stdout,
        redirect_stderr(StringIO()) as stderr,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", TextIOWrapper(BytesIO(input)))
        status = main(["--address", address, *arguments])
    return Done(status, stdout.getvalue(), stderr.getvalue())


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "coffee.jpg"
    path.write_bytes(jpeg("coffee"))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs, one of them in a folder of its own, and two files that are none."""
    folder = tmp_path / "photographs"
    (folder / "space").mkdir(parents=True)
    (folder / "coffee.jpg").write_bytes(jpeg("coffee"))
    (folder / "space" / "rocket.jpg").write_bytes(jpeg("rocket"))
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    return folder


def test_explain_in_a_process_of_its_own(address: str, image: Path, tmp_path: Path) -> None:
    overlay, heatmap = tmp_path / "out.png", tmp_path / "out.npy"
    command = [sys.executable, "-m", "gradserve.cli", "--address", address, "explain", str(image)]
    asked = ["--method", "saliency", "--target", "cup", "--set", "reduction=sum"]
    saved = ["--output", str(overlay), "--heatmap", str(heatmap)]
    done = subprocess.run([*command, *asked, *saved], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "saliency of cup" in done.stdout
    assert f"overlay: {overlay}\nheatmap: {heatmap}\n" in done.stdout
    with PIL.Image.open(overlay) as saved:
        assert saved.size == (600, 400)
    assert np.load(heatmap).shape == (400, 600)
    assert np.load(heatmap).min() < 0


def test_several_methods_side_by_side(address: str, image: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "out.png"
    asked = ["explain", str(image), "--method", "saliency", "--method", "grad_cam", "--overlay", "type=outlines"]
    done = gradserve(address, *asked, "--output", str(sheet))
    assert done.returncode == 0, done.stderr
    assert "saliency of espresso" in done.stdout
    assert "grad_cam of espresso" in done.stdout
    with PIL.Image.open(sheet) as saved:
        # The photograph and two overlays, two in a row, 320 pixels wide each.
        assert saved.width == 2 * 328 + 8
        assert saved.height > 2 * 213
    refused = gradserve(address, *asked, "--heatmap", "out.npy")
    assert refused.returncode == 2
    assert "one method" in refused.stderr


def test_a_photograph_of_a_camera_is_explained_by_several_methods(address: str, tmp_path: Path) -> None:
    photograph = tmp_path / "camera.jpg"
    PIL.Image.fromarray(np.zeros((1600, 2400, 3), np.uint8)).save(photograph)
    methods = ("saliency", "grad_cam", "hires_cam", "layer_cam", "xgrad_cam")
    asked = ["explain", str(photograph), *(word for method in methods for word in ("--method", method))]
    done = gradserve(address, *asked)
    assert done.returncode == 0, done.stderr
    # Maps of all its pixels are more than one answer holds, which the error says with the way out.
    refused = gradserve(address, *asked, "--output", str(tmp_path / "out.png"))
    assert refused.returncode == 1
    assert "5 heatmaps of 2400 x 1600 would have 76800000 bytes" in refused.stderr
    smaller = gradserve(address, *asked, "--output", str(tmp_path / "out.png"), "--frame", "model_input")
    assert smaller.returncode == 0, smaller.stderr


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("explain", "IMAGE", "--overlay", "opacity=x"), "--output or --html"),
        (("explain", "IMAGE", "--max-side", "300"), "--output, --heatmap or --html"),
        (("explain", "IMAGE", "--method", "rise", "--set", "mask_count=abc"), "mask_count: "),
        (("maximize", "--class", "espresso", "--change", "out.png"), "give IMAGE"),
    ],
)
def test_what_would_be_left_undone_is_said(address: str, image: Path, asked: tuple[str, ...], said: str) -> None:
    done = gradserve(address, *(str(image) if one == "IMAGE" else one for one in asked))
    assert done.returncode
    assert said in done.stderr


def test_a_folder_into_a_folder(address: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["explain", str(folder), "--method", "grad_cam", "--method", "saliency"]
    done = gradserve(address, *asked, "--output", str(out), "--heatmap", str(out / "maps"))
    # What failed is named, does not keep the others from being explained, and shows in the status.
    assert done.returncode == 1
    assert f"{folder / 'broken.png'}: image.encoded: " in done.stderr
    assert f"{folder / 'coffee.jpg'}: grad_cam of espresso: " in done.stdout
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "coffee.grad_cam.png",
        "coffee.saliency.png",
        "maps/coffee.grad_cam.npy",
        "maps/coffee.saliency.npy",
        "maps/space/rocket.grad_cam.npy",
        "maps/space/rocket.saliency.npy",
        "space/rocket.grad_cam.png",
        "space/rocket.saliency.png",
    ]
    with PIL.Image.open(out / "space" / "rocket.saliency.png") as saved:
        assert saved.size == (640, 427)


def test_where_only_time_was_short_the_status_says_later(address: str, folder: Path) -> None:
    images = [str(folder / name) for name in ("coffee.jpg", "space/rocket.jpg")]
    late = ["--timeout", "0.3", "explain", "--method", "rise", "--set", "mask_count=4000", "--json"]
    for asked, status in ((images[:1], 3), (images, 3), ([str(folder / "none.jpg"), *images], 1)):
        done = gradserve(address, *late, *asked)
        assert done.returncode == status, done.stderr
        codes = [one["error"].get("code") for one in lines(done.stdout)]
        assert "DEADLINE_EXCEEDED" in codes


def test_patterns_and_names_that_meet(address: str, folder: Path, tmp_path: Path) -> None:
    (folder / "space" / "coffee.jpg").write_bytes(jpeg("coffee"))
    pattern = str(folder / "**" / "*.jpg")
    done = gradserve(address, "explain", pattern, str(folder / "coffee.jpg"), *SMALL, "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["coffee-2.png", "coffee.png", "rocket.png"]


def test_the_standard_input_as_json(address: str, tmp_path: Path) -> None:
    heatmap = tmp_path / "out.npy"
    arguments = ["explain", "-", "--top-k", "2", "--method", "grad_cam", "--seed", "3", "--json"]
    done = gradserve(address, *arguments, input=jpeg("coffee"))
    assert done.returncode == 0, done.stderr
    first, second = lines(done.stdout)
    assert (first["image"], first["method"], first["target"]["label"]) == ("-", "grad_cam", "espresso")
    assert first["predictions"][1]["label"] == second["target"]["label"]
    assert first["metadata"]["seed"] == 3
    assert first["files"] == {}
    done = gradserve(address, "explain", "-", "--json", "--heatmap", str(heatmap), input=jpeg("coffee"))
    assert lines(done.stdout)[0]["files"] == {"heatmap": str(heatmap)}
    assert heatmap.exists()
    assert gradserve(address, "explain", "-", input=b"").returncode == 2


def test_failures_as_json(address: str, folder: Path) -> None:
    done = gradserve(address, "explain", str(folder), "--json", *SMALL)
    assert done.returncode == 1
    assert done.stderr == ""
    found = {Path(line["image"]).name: line for line in lines(done.stdout)}
    assert set(found) == {"broken.png", "coffee.jpg", "rocket.jpg"}
    assert found["broken.png"]["error"]["code"] == "INVALID_ARGUMENT"
    assert found["broken.png"]["error"]["field_violations"][0]["field"] == "image.encoded"
    assert "error" not in found["rocket.jpg"]


class Page(HTMLParser):
    """What a browser would load and show of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_that_needs_no_other_file(address: str, folder: Path, tmp_path: Path) -> None:
    html = tmp_path / "page.html"
    (folder / "<b>.jpg").write_bytes(jpeg("coffee"))
    done = gradserve(address, "explain", str(folder), "--method", "grad_cam", "--html", str(html))
    assert done.returncode == 1
    assert f"page: {html}" in done.stdout
    page = Page(html.read_text(encoding="utf-8"))
    # Three photographs, each with its overlay.
    assert len(page.sources) == 6
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    shown = " ".join(page.words)
    for words in ("grad_cam of espresso: ", "space/rocket.jpg", "broken.png", "JPEG, PNG or WebP", "<b>.jpg"):
        assert words in shown


def test_maps_are_no_larger_than_is_asked_for(address: str, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    PIL.Image.fromarray(photograph("coffee")).resize((2400, 1600)).save(large)
    options = ("explain", str(large), "--method", "grad_cam", "--method", "saliency")
    done = gradserve(address, *options, "--heatmap", str(tmp_path / "maps"), "--max-side", "300")
    assert done.returncode == 0, done.stderr
    assert [np.load(file).shape for file in (tmp_path / "maps").iterdir()] == [(200, 300)] * 2
    # Six maps of all of the photograph would be more than an answer holds; a page shows smaller ones.
    html = tmp_path / "page.html"
    done = gradserve(address, *options, "--method", "layer_cam", "--top-k", "2", "--html", str(html))
    assert done.returncode == 0, done.stderr
    assert len(Page(html.read_text(encoding="utf-8")).sources) == 7
    # What is saved besides is as large as ever.
    whole = tmp_path / "whole.npy"
    done = gradserve(address, "explain", str(large), "--html", str(html), "--heatmap", str(whole))
    assert done.returncode == 0, done.stderr
    assert np.load(whole).shape == (1600, 2400)


def test_a_page_begins_well_whatever_comes_first(address: str, folder: Path, tmp_path: Path) -> None:
    html = tmp_path / "page.html"
    assert gradserve(address, "explain", str(folder / "broken.png"), str(folder), "--html", str(html)).returncode == 1
    text = html.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.count("<!doctype html>") == 1


def test_a_page_shows_explanations_of_an_image_that_cannot_be_shown(address: str, image: Path, tmp_path: Path) -> None:
    with Client(address) as client:
        explanations = client.explain_many(image, methods=["saliency"])
    with (tmp_path / "page.html").open("w+", encoding="utf-8") as file:
        with Gallery(file, "one") as gallery:
            gallery.add("unreadable.jpg", b"not for this decoder", explanations)
        file.seek(0)
        page = Page(file.read())
    assert len(page.sources) == 1
    assert "espresso" in " ".join(page.words)


def test_mistakes(address: str, image: Path, folder: Path, tmp_path: Path) -> None:
    for arguments, status, words in (
        (["explain", str(tmp_path / "none.jpg")], 1, "none.jpg"),
        (["explain", str(image), "--target", "expresso"], 1, "targets[0].class_label: "),
        (["explain", str(image), "--target", "expresso"], 1, "espresso"),
        (["explain", str(image), "--layer", "conv_haed"], 1, "methods[0].grad_cam.layers[0]: "),
        (["explain", str(image), "--method", "gradcam"], 2, "grad_cam"),
        (["explain", str(image), "--set", "rellu=true"], 2, "relu"),
        (["explain", str(image), "--set", "relu"], 2, "give NAME=VALUE, not 'relu'"),
        (["explain", str(image), "--heatmap", "out.png"], 2, ".npy"),
        (["explain", str(image), "--output", "out.pgn"], 2, ".pgn"),
        (["explain", str(folder), "--output", "out.png"], 2, "must be a folder"),
        (["explain", str(tmp_path / "*.gif")], 2, "no file matches"),
        (["explain"], 2, "IMAGES"),
        (["explian"], 2, "explain"),
        (["maximize", "--epsilon", "4/0", "--class", "1"], 2, "4/255"),
        # Before anything is computed, of which nothing could be saved.
        (["maximize", "--class", "1", "--gif", "way.film"], 2, "--gif: no picture"),
        (["stylize", str(image), "--style", str(image), "--output", "nowhere/out.png"], 2, "no folder 'nowhere'"),
        (["load", str(image), "--rate", "5,x"], 2, "5,10,20"),
    ):
        done = gradserve(address, *arguments)
        assert done.returncode == status, (arguments, done.stderr)
        assert words in done.stderr, arguments


def test_models_and_health(address: str) -> None:
    listed = gradserve(address, "models", "--layers").stdout
    assert "efficientnet_lite0" in listed
    assert "conv_head" in listed
    assert "ms forward, " in listed
    assert "image_bytes 1048576" in listed
    assert "stylizer stained_glass" in listed
    assert gradserve(address, "health").stdout == "ready\n"
    assert lines(gradserve(address, "health", "--json").stdout) == [{"address": address, "ready": True}]
    models = lines(gradserve(address, "models", "--json").stdout)
    assert models[0]["name"] == "efficientnet_lite0"
    assert models[0]["costs"][0]["gradient_ms"] > models[0]["costs"][0]["forward_ms"] > 0


def test_what_is_made_as_json(address: str, image: Path, tmp_path: Path) -> None:
    picture = tmp_path / "made.png"
    maximized = ["maximize", "--class", "1", "--steps", "2", "--size", "32", "--output", str(picture), "--json", *SMALL]
    (found,) = lines(gradserve(address, *maximized).stdout)
    assert (found["files"], found["stop_reason"]) == ({"image": str(picture)}, "completed")
    assert len(found["predictions"]) == 5
    stylized = [
        "stylize",
        str(image),
        "--stylizer",
        "stained_glass",
        "--size",
        "32",
        "--output",
        str(picture),
        "--json",
    ]
    (found,) = lines(gradserve(address, *stylized).stdout)
    assert (found["files"], found["metadata"]["model"]) == ({"image": str(picture)}, "stained_glass")
    with PIL.Image.open(picture) as saved:
        assert saved.size == (32, 21)
    loaded = ["load", str(image), "--rate", "4,8", "--seconds", "0.5", "--json", *SMALL]
    first, second, knee = lines(gradserve(address, *loaded).stdout)
    assert (first["codes"], second["codes"]) == ({"OK": 2}, {"OK": 4})
    assert second["latency_seconds"]["p50"] > 0
    assert set(knee) == {"knee"}


def test_no_server(image: Path) -> None:
    refused = gradserve("127.0.0.1:1", "--timeout", "1", "health")
    assert refused.returncode == 3
    assert "no server was ready" in refused.stderr
    refused = gradserve("127.0.0.1:1", "--timeout", "5", "explain", str(image), "--json")
    assert refused.returncode == 3
    assert "gradserve-server serve" in refused.stderr


def test_without_its_packages_it_says_what_to_install(tmp_path: Path) -> None:
    # As where the client alone is installed: both are there, and cannot be imported.
    for name in ("click", "rich"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "gradserve.cli", "health"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr == "gradserve: the command line needs two more packages: pip install 'gradserve[cli]'\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gradserve max", "maximize"),
        ("gradserve explain --meth", "--method"),
        ("gradserve explain --method occ", "occlusion"),
    ],
)
def test_a_shell_completes(typed: str, offered: str) -> None:
    script = subprocess.run(
        [sys.executable, "-m", "gradserve.cli", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    words = " ".join(f"'{word}'" for word in typed.split())
    ask = f"""{script}
COMP_WORDS=({words}); COMP_CWORD={len(typed.split()) - 1}
_gradserve_completion gradserve
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    # bash asks the command `gradserve` on the way: the one that is installed beside this Python.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, env=environment)
    assert offered in done.stdout.splitlines(), done.stderr
