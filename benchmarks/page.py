"""How fast the page is, in a browser: python -m benchmarks.page [CONFIG].

Serves CONFIG (celeba), opens a photograph of 24 megapixels, and tells how long it takes from the
command to the page and to a model that is ready, how many frames a second are drawn while one
paints across the photograph, fitted and zoomed in, and how long it takes from the button to the
first preview and to the end of a cancelled job. Wants playwright and a chromium, which CHROMIUM
names if it is not /usr/bin/chromium.
"""

from __future__ import annotations

import io
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

from repaint_jax.pictures.images import astronaut

PORT = 7871
SIDES = (6000, 4000)
_COUNT_FRAMES = """() => {
    const frames = (window.frames_ = []);
    const count = (now) => {
        frames.push(now);
        if (window.frames_ === frames) requestAnimationFrame(count);
    };
    requestAnimationFrame(count);
}"""


@contextmanager
def served(config: str) -> Iterator[str]:
    """The page's address while its server runs."""
    command = [sys.executable, "-m", "repaint_jax", "serve", f"--config={config}", f"--port={PORT}"]
    server = subprocess.Popen(command)
    try:
        while server.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", PORT), timeout=1):
                break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{PORT}"
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def browser() -> Iterator[Browser]:
    """A chromium."""
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


def paint(page: Page, seconds: float) -> tuple[float, float]:
    """Frames a second while a stroke goes round, and the longest time between two, ms."""
    box = page.locator("#viewport").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate(_COUNT_FRAMES)
    started, i = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        i += 1
        radius = 150 + 60 * math.sin(i / 40)
        page.mouse.move(x + radius * math.cos(i / 15), y + radius * math.sin(i / 15))
    times = page.evaluate("() => window.frames_")
    page.mouse.up()
    gaps = [after - before for before, after in pairwise(times)]
    return 1000 * len(gaps) / sum(gaps), max(gaps)


def main() -> None:
    """Prints the figures."""
    config = sys.argv[1] if len(sys.argv) > 1 else "celeba"
    file = io.BytesIO()
    Image.fromarray(astronaut()).resize(SIDES, Image.Resampling.BICUBIC).save(file, "JPEG")
    started = time.perf_counter()
    with served(config) as url, browser() as chromium:
        page = chromium.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(url)
        print(f"page: {time.perf_counter() - started:.1f} s after the command")
        page.get_by_text("Ready,").wait_for(timeout=300_000)
        print(f"model: {time.perf_counter() - started:.1f} s after the command")
        begun = time.perf_counter()
        buffer = file.getvalue()
        upload = FilePayload(name="photo.jpg", mimeType="image/jpeg", buffer=buffer)
        page.locator("#file").set_input_files(upload)
        page.locator("#tools").wait_for(timeout=60_000)
        print(f"24 megapixels ({len(buffer) / 2**20:.1f} MiB): {time.perf_counter() - begun:.1f} s")
        for where in ("fitted", "zoomed in"):
            rate, longest = paint(page, 5.0)
            print(f"painting, {where}: {rate:.0f} frames a second, the longest {longest:.0f} ms")
            page.mouse.wheel(0, -1200)
            page.wait_for_timeout(1000)
        page.get_by_role("button", name="Clear the hole").click()
        page.locator("#viewport").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Enter")
        for _ in range(2):  # the second time everything is compiled
            begun = time.perf_counter()
            page.get_by_role("button", name="Fill the hole").click()
            page.get_by_text("left", exact=False).locator("visible=true").first.wait_for()
            print(f"first preview: {time.perf_counter() - begun:.2f} s after the button")
            begun = time.perf_counter()
            page.get_by_role("button", name="Cancel").click()
            page.locator("#progress").wait_for(state="hidden")
            print(f"cancelled: {time.perf_counter() - begun:.2f} s after the button")


if __name__ == "__main__":
    main()
