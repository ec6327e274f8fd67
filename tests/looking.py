"Looks at a page as a reader does: in a browser, on a phone and on a desktop, in light and dark mode."

import shutil
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest

CHROMIUM = next(filter(None, map(shutil.which, chromium.CHROMIUM)), None)
SCREENS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]
LOOK = (Path(__file__).parent / "looking.js").read_text()


@pytest.fixture(scope="module")
def offline_browser():
    "A browser."
    if not CHROMIUM:
        pytest.skip("no Chromium here: `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=chromium.FLAGS)
        yield browser
        browser.close()


def open_offline(browser, path: Path | None = None, width: int = 1280, scheme: str = "light", height: int = 900):
    "A page in a new context without a network. `complaints` has its errors and its requests to other machines."
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda line: page.complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "request", lambda request: request.url.startswith(("file:", "data:")) or page.complaints.append(request.url)
    )
    if path:
        page.goto(path.resolve().as_uri())
    return page


def complaints_of(page) -> list[str]:
    "What is wrong with a page that is open, as sentences."
    height = page.evaluate("document.documentElement.scrollHeight")
    width = page.viewport_size["width"]
    page.set_viewport_size({"width": width, "height": max(height, 900)})  # the browser finds what lies behind a text
    return [*page.complaints, *page.evaluate(LOOK)]


def complaints_about(browser, path: Path) -> Iterator[str]:
    "What is wrong with a page, as sentences, screen by screen."
    for width, scheme in SCREENS:
        page = open_offline(browser, path, width, scheme)
        yield from [f"{width} {scheme}: {text}" for text in complaints_of(page)]
        page.context.close()
