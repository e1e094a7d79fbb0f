"""The page in a browser, as a person uses it: with a pointer, with keys alone, and on a phone."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.support.ui import Select
from tests.browser.chromium import chromium, resize
from tests.browser.opened import AXE, Page
from tests.conftest import jpeg
from tests.serving import sample, served

from gradserve_server.app import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(ui="127.0.0.1:0") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Chrome, server: Server) -> Page:
    resize(browser, 1400, 1000)
    # Away first: a change of the part after # alone loads nothing.
    browser.get("about:blank")
    return Page(browser, server).opened()


def test_methods_side_by_side_over_the_photograph(page: Page) -> None:
    page.photograph()
    methods = [figure.text for figure in page.all("#explanations figure strong")]
    assert set(methods) == {"grad_cam", "saliency", "guided_backprop", "lrp"}
    assert page.said("Egyptian cat")
    sizes = page.browser.execute_script(
        "return [...document.querySelectorAll('#explanations img')].map((one) => [one.naturalWidth, one.naturalHeight])"
    )
    assert sizes == [[451, 300]] * 2 * len(methods)

    slider = page.one("#opacity")
    slider.send_keys(Keys.HOME)
    assert {image.value_of_css_property("opacity") for image in page.all("#explanations .over")} == {"0"}
    slider.send_keys(Keys.ARROW_RIGHT)
    assert slider.get_attribute("aria-valuetext") == "1 %"

    # Another of the classes that the model sees is asked at once.
    (tabby,) = [one for one in page.all(".prediction") if one.text.startswith("tabby")]
    tabby.click()
    page.until(lambda: page.said("maps of “tabby”"))
    assert page.one(".prediction input:checked").get_attribute("value") == "281"


def test_a_dropped_photograph_and_a_named_class(page: Page) -> None:
    page.browser.execute_script(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), (one) => one.charCodeAt(0));
        const files = new DataTransfer();
        files.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
        document.querySelector("#zone").dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true }));
        """,
        base64.b64encode(jpeg("coffee")).decode(),
    )
    page.until(lambda: page.said("espresso"))
    assert "dropped.jpg, 600 × 400" in page.one("#photograph-name").text
    page.fill("#other", "coffee mug")
    page.one("#explain-form .main").click()
    page.until(lambda: page.said("coffee mug"))


def test_errors_are_readable_and_name_the_field(page: Page, tmp_path: Path) -> None:
    page.one("#explain-form .main").click()
    page.until(lambda: "Choose a photograph first" in page.one("#error").text)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.one("#file").send_keys(str(broken))
    page.until(lambda: "broken.png is not a picture" in page.one("#error").text)
    page.photograph()
    assert page.one("#error").text == ""
    page.fill("#other", "unicorn")
    page.one("#explain-form .main").click()
    page.until(lambda: page.one("#error").text)
    assert page.one("#error code").text == "targets[0].class_label"
    assert "unicorn" in page.one("#error").text
    assert page.one("#error").get_attribute("role") == "alert"


def test_progress_is_live_and_stop_stops(page: Page, server: Server) -> None:
    page.view("maximize")
    page.fill("#maximize-steps", "2000")
    page.fill("#maximize-side", "64")
    page.one("#maximize-form .main").click()
    page.until(lambda: page.all("#maximize-run img[alt^='the image after step']"))
    first = page.one("#maximize-run img").get_attribute("src")
    page.until(lambda: page.one("#maximize-run img").get_attribute("src") != first)
    assert "of 2000" in page.one("#maximize-run .facts").text
    page.one("#maximize-form .stop").click()
    page.until(lambda: page.said("Stopped at step"))
    page.until(lambda: sample(server, "gradserve_inflight_requests", method="Maximize") == 0)
    assert not page.one("#maximize-form .stop").is_enabled()


def test_an_attack_and_a_wrong_value(page: Page) -> None:
    page.photograph()
    page.view("maximize")
    Select(page.one("#preset")).select_by_value("PRESET_PGD")
    page.fill("#maximize-steps", "100000")
    page.one("#maximize-form .main").click()
    page.until(lambda: page.all("#error code"))
    assert page.one("#error code").text == "step_count"
    page.fill("#maximize-steps", "5")
    page.one("#maximize-form .main").click()
    page.until(lambda: page.said("Done"))
    assert "before Egyptian cat" in page.one("#maximize-run .facts").text
    assert page.all("#maximize-run .change img")


def test_styles_by_a_network_and_by_a_picture(page: Page, tmp_path: Path) -> None:
    page.photograph()
    page.view("stylize")
    page.fill("#stylize-side", "96")
    page.one("#stylize-form .main").click()
    page.until(lambda: page.said("in the style of stained_glass"))
    (tmp_path / "style.jpg").write_bytes(jpeg("coffee"))
    page.one("[name=style][value=picture]").click()
    page.one("#style-file").send_keys(str(tmp_path / "style.jpg"))
    page.until(lambda: page.one("#style-thumbnail").is_displayed())
    page.fill("#stylize-steps", "5")
    page.one("#stylize-form .main").click()
    page.until(lambda: page.said("in another style; loss"))


def test_it_is_used_by_keys_alone(page: Page) -> None:
    def focused() -> str:
        element = page.browser.switch_to.active_element
        return element.get_attribute("id") or element.get_attribute("data-photograph") or element.text

    def press(key: str) -> None:
        ActionChains(page.browser).send_keys(key).perform()

    reached = []
    press(Keys.TAB)
    for _ in range(9):
        reached.append(focused())
        if reached[-1] == "chelsea":
            break
        press(Keys.TAB)
    assert reached == ["Skip to the results", "Explain", "Maximize", "Stylize", "model", "file", "chelsea"]
    outline = page.browser.switch_to.active_element.value_of_css_property("outline-style")
    assert outline == "solid"
    press(Keys.ENTER)
    page.until(lambda: page.said("maps of"))
    while focused() != "Explain" or page.browser.switch_to.active_element.tag_name != "button":
        press(Keys.TAB)
    press(Keys.SPACE)
    page.until(lambda: page.said("maps of"))


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_wrong(server: Server, dark: bool) -> None:
    assert AXE.exists(), "run `make test-browser`, which installs axe"
    with chromium(dark=dark) as browser:
        page = Page(browser, server).opened()
        assert page.violations() == []
        page.one("summary").click()
        page.photograph()
        assert page.violations() == []
        page.fill("#other", "unicorn")
        page.one("#explain-form .main").click()
        page.until(lambda: page.one("#error").text)
        assert page.violations() == []
        for name in ("maximize", "stylize"):
            page.view(name)
            assert page.violations() == []
        page.one("#stylize-form .main").click()
        page.until(lambda: page.said("in the style of"))
        assert page.violations() == []


def test_it_fits_a_phone(page: Page) -> None:
    resize(page.browser, 360, 740)
    page.photograph()
    for name in ("explain", "maximize", "stylize"):
        page.view(name)
        wide, seen = page.browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide <= seen, f"{name} is {wide} pixels wide"
    # The form is longer than the screen: what it finds is brought into view.
    page.view("explain")
    page.one("#explain-form .main").click()
    page.until(lambda: page.said("maps of"))
    place = page.browser.execute_script("return document.querySelector('#status').getBoundingClientRect().top")
    assert 0 <= place < 740


def test_nothing_is_fetched_from_elsewhere_and_nothing_is_wrong_in_the_console(page: Page) -> None:
    page.browser.get_log("browser")
    page.photograph()
    fetched = page.browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert len(fetched) > 5
    assert [name for name in fetched if not name.startswith((page.address, "blob:", "data:"))] == []
    assert [entry for entry in page.browser.get_log("browser") if entry["level"] != "INFO"] == []
