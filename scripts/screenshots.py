"""Takes the pictures of the page and of the demo's gallery that docs/ shows; needs Chromium.

`demo/index.html` is pictured where `make demo` has made it. Arguments name the pictures to take; none takes all.
"""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import PIL.Image
from selenium.webdriver import Chrome

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
GALLERY = ROOT / "demo/index.html"
LARGEST_BYTES = 300_000


def main() -> None:
    """Runs the command."""
    sys.path.insert(0, str(ROOT))
    from selenium.webdriver.support.ui import Select
    from tests.browser.chromium import chromium
    from tests.browser.opened import Page
    from tests.serving import served

    from gradserve_server.app import Server

    def explain(page: Page) -> None:
        page.photograph()

    def maximize(page: Page) -> None:
        page.view("maximize")
        page.fill("#maximize-steps", "128")
        page.fill("#maximize-side", "160")
        page.one("#maximize-form .main").click()
        page.until(lambda: page.said("Done"))

    def attack(page: Page) -> None:
        page.photograph()
        page.view("maximize")
        Select(page.one("#preset")).select_by_value("PRESET_PGD")
        page.one("#maximize-form .main").click()
        page.until(lambda: page.said("Done"))

    def stylize(page: Page) -> None:
        page.photograph()
        page.view("stylize")
        page.one("#stylize-form .main").click()
        page.until(lambda: page.said("in the style of"))

    def phone(page: Page) -> None:
        page.photograph()
        page.browser.execute_script("document.querySelector('#results').scrollIntoView()")

    pictures: dict[str, tuple[Callable[[Page], None], int, int, bool]] = {
        "page-explain": (explain, 1400, 900, False),
        "page-maximize": (maximize, 1200, 860, False),
        "page-attack": (attack, 1200, 900, False),
        "page-stylize": (stylize, 1200, 760, True),
        "page-phone": (phone, 390, 844, True),
    }
    wanted = sys.argv[1:] or [*pictures, "demo"]
    IMAGES.mkdir(exist_ok=True)

    def take(server: Server, name: str) -> None:
        act, width, height, dark = pictures[name]
        with chromium(width, height, dark=dark) as browser:
            page = Page(browser, server).opened()
            act(page)
            save(browser, name)

    if names := [name for name in wanted if name in pictures]:
        with served(ui="127.0.0.1:0") as server:
            for name in names:
                take(server, name)
    if "demo" in wanted:
        with chromium(1200, 1500) as browser:
            browser.get(GALLERY.as_uri())
            save(browser, "demo")


def save(browser: Chrome, name: str) -> None:
    """Saves what the browser shows as a small file."""
    with PIL.Image.open(BytesIO(browser.get_screenshot_as_png())) as picture:
        path = IMAGES / f"{name}.webp"
        picture.convert("RGB").save(path, quality=80, method=6)
    assert path.stat().st_size < LARGEST_BYTES, f"{path.name} has {path.stat().st_size} bytes"
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
