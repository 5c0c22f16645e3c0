"""Pictures of the page for the guides: python -m tools.screenshots [CONFIG].

Serves CONFIG (celeba), opens the portrait in a browser, paints a hole, fills it, and writes
page_before.jpg, page_during.jpg and page_after.jpg. Wants playwright and a chromium, which
CHROMIUM names if it is not /usr/bin/chromium.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from benchmarks.page import browser, served

ROOT = Path(__file__).parent.parent


def paint(page: Page) -> None:
    """A hole over the mouth and the chin, in three strokes."""
    box = page.locator("#viewport").bounding_box()
    assert box is not None
    side = min(box["width"] - 64, box["height"] - 108)  # as the picture is fitted
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + 32
    for row in (0.62, 0.68, 0.74):
        page.mouse.move(left + 0.32 * side, top + row * side)
        page.mouse.down()
        page.mouse.move(left + 0.68 * side, top + (row + 0.02) * side, steps=12)
        page.mouse.up()


def take(page: Page, path: Path) -> None:
    """A picture of few enough bytes for a guide."""
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").save(path, quality=88, optimize=True)


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="celeba")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with served(asked.config) as url, browser() as chromium:
        page = chromium.new_page(
            viewport={"width": asked.width, "height": 800},
            color_scheme="dark" if asked.dark else "light",
        )
        page.on("pageerror", lambda error: print(f"error in the page: {error}"))
        page.on("console", lambda line: print(f"console: {line.text}"))
        page.goto(url)
        page.get_by_text("Ready,").wait_for(timeout=180_000)
        page.locator("#welcome-portrait").click()
        page.locator("#tools").wait_for()
        page.locator("#size").fill("0.66")
        paint(page)
        take(page, asked.out / "page_before.jpg")
        page.get_by_role("button", name="Fill the hole").click()
        bar = page.locator("#progress-bar")
        while bar.is_visible() and float(bar.evaluate("bar => bar.value")) < 0.55:
            page.wait_for_timeout(100)
        take(page, asked.out / "page_during.jpg")
        page.locator("#thumbs canvas").first.wait_for(timeout=300_000)
        page.wait_for_timeout(500)
        take(page, asked.out / "page_after.jpg")


if __name__ == "__main__":
    main()
