"""Pictures of the page for the guides: python tools/screenshots.py [CONFIG].

Serves CONFIG (celeba), opens the portrait in a browser, paints a hole, fills it, and writes
page_before.png, page_during.png and page_after.png. Wants playwright and a chromium, which
CHROMIUM names if it is not /usr/bin/chromium.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
PORT = 7871


@contextmanager
def served(config: str) -> Iterator[str]:
    """The page's address while its server runs."""
    command = [sys.executable, "-m", "repaint_jax", "serve", f"--config={config}", f"--port={PORT}"]
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        while server.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", PORT), timeout=1):
                break
        yield f"http://127.0.0.1:{PORT}"
    finally:
        server.terminate()
        server.wait(30)


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


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="celeba")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with served(asked.config) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(
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
        page.screenshot(path=asked.out / "page_before.png")
        page.get_by_role("button", name="Fill the hole").click()
        bar = page.locator("#progress-bar")
        while bar.is_visible() and float(bar.evaluate("bar => bar.value")) < 0.55:
            page.wait_for_timeout(100)
        page.screenshot(path=asked.out / "page_during.png")
        page.locator("#thumbs canvas").first.wait_for(timeout=300_000)
        page.wait_for_timeout(500)
        page.screenshot(path=asked.out / "page_after.png")
        browser.close()


if __name__ == "__main__":
    main()
