"""The page in a real browser: what a person does, and what they see of it."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from web_server import photograph, pixels_of, png, serving

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no chromium: install it, or name one by CHROMIUM", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore:the model's")

HEIGHT, WIDTH = 150, 240
PIXELS = photograph(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def running():
    with serving() as served:
        yield served.wait_until_ready()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def tab(running, browser):
    """Opens tabs that the tests drive; each must end without an error in its console."""
    running.gate.open = True
    tabs = []

    def open_tab(**options):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        tabs.append(Tab(context.new_page(), running))
        return tabs[-1]

    yield open_tab
    running.gate.open = True
    for each in tabs:
        each.page.context.close()
        assert each.errors == []
        assert {url.split("/")[2] for url in each.asked if "//" in url} == {running.url[7:]}


class Tab:
    """A tab of the browser, and what a person does in it."""

    def __init__(self, page, served):
        self.page, self.errors, self.asked = page, [], []
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(served.url)
        self.button("Choose a photograph").wait_for()

    def button(self, name, exact=True):
        return self.page.get_by_role("button", name=name, exact=exact)

    def open(self, pixels=PIXELS, *, kind="PNG", content=None, name="photo.png"):
        content = png(pixels, kind) if content is None else content
        file = {"name": name, "mimeType": "image/png", "buffer": content}
        self.page.locator("#file").set_input_files(file)
        return self

    def opened(self, *arguments, **options):
        self.open(*arguments, **options)
        self.page.locator("#tools").wait_for()
        return self

    def at(self, x, y):
        """Where on the screen a pixel of the photograph is, by what the page says of itself."""
        return self.page.evaluate(
            """async ([x, y]) => {
                const box = document.getElementById("viewport").getBoundingClientRect();
                const { stage } = await import("/main.js");
                const [across, down] = stage.view.toScreen(x, y);
                return [box.left + across, box.top + down];
            }""",
            [x, y],
        )

    def paint(self, *points):
        mouse = self.page.mouse
        mouse.move(*self.at(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.at(*point), steps=4)
        mouse.up()

    def brush(self, size):
        self.page.evaluate("async size => (await import('/main.js')).painting.resize(size)", size)

    def fill(self, samples=1):
        self.page.locator(f"#samples input[value='{samples}']").check()
        self.page.locator("#qualities input[value='draft']").check()
        self.button("Fill the hole").click()

    def filled(self, samples=1):
        self.fill(samples)
        self.page.locator("#thumbs button").nth(samples - 1).wait_for()

    def downloaded(self, name):
        with self.page.expect_download() as download:
            self.button(name).click()
        return Path(download.value.path()).read_bytes()

    def hole(self):
        """The mask that the page downloads, True in the hole."""
        self.button("Mask: load, save, colour").click()
        content = self.downloaded("Save the mask")
        self.page.keyboard.press("Escape")
        return ~np.asarray(Image.open(io.BytesIO(content)).convert("1"))

    def told(self):
        self.page.locator("#toast").wait_for()
        return self.page.locator("#toast-text").text_content()

    def seen(self, x, y):
        """The colour on the screen where a pixel of the photograph is."""
        left, top = self.at(x + 0.5, y + 0.5)
        clip = {"x": round(left) - 1, "y": round(top) - 1, "width": 2, "height": 2}
        return pixels_of(self.page.screenshot(clip=clip))[0, 0, :3].astype(int)


def test_a_stroke_is_filled_before_ones_eyes_and_nothing_else_changes(tab, running):
    person = tab().opened()
    person.brush(20)
    person.paint((60, 60), (150, 90))
    before = person.seen(100, 20), person.seen(100, 73)
    running.gate.open = False
    person.fill(samples=2)
    running.gate.let(6)
    person.page.wait_for_timeout(50)
    for _ in range(100):  # until a preview is there, in the hole alone
        preview = person.seen(100, 73)
        if np.abs(preview - before[1]).max() > 3:
            break
        person.page.wait_for_timeout(30)
    assert np.abs(preview - before[1]).max() > 3
    assert (person.seen(100, 20) == before[0]).all()
    assert "left" in person.page.locator("#progress").inner_text()
    running.gate.open = True
    person.page.locator("#thumbs button").nth(1).wait_for()
    content = person.downloaded("Download")
    hole = person.hole()
    result = pixels_of(content)
    np.testing.assert_array_equal(result[~hole], PIXELS[~hole])
    assert (result[hole] != PIXELS[hole]).any()
    assert hole[73, 100]
    assert not hole[20, 100]
    assert 0.8 < hole.sum() / (20 * np.hypot(90, 30) + np.pi * 100) < 1.2
    assert len(person.downloaded("All as zip")) > 2 * 1000


def test_strokes_are_undone_redone_erased_and_inverted(tab):
    person = tab().opened()
    person.brush(30)
    person.paint((40, 40), (100, 40))
    first = person.hole()
    person.page.keyboard.press("r")
    person.paint((120, 60), (200, 120))
    both = person.hole()
    assert both[90, 160]
    person.page.locator("#viewport").focus()
    person.page.keyboard.press("Control+z")
    np.testing.assert_array_equal(person.hole(), first)
    person.page.keyboard.press("Control+Shift+z")
    np.testing.assert_array_equal(person.hole(), both)
    person.page.keyboard.press("e")
    person.paint((160, 90), (170, 90))
    assert not person.hole()[90, 165]
    erased = person.hole()
    person.button("Invert the hole").click()
    np.testing.assert_array_equal(person.hole(), ~erased)
    person.button("Clear the hole").click()
    assert not person.hole().any()
    assert person.button("Paint the hole first").is_disabled()
    person.button("Undo").click()
    np.testing.assert_array_equal(person.hole(), ~erased)


@pytest.mark.parametrize("density", [1, 2, 1.5])
def test_strokes_land_where_the_pointer_is_at_any_zoom(tab, density):
    person = tab(device_scale_factor=density).opened()
    person.brush(4)
    person.paint((30.5, 20.5))  # fitted
    person.page.mouse.move(*person.at(200, 120))
    for _ in range(2):
        person.page.mouse.wheel(0, -300)
    person.page.wait_for_timeout(50)
    assert "%" in person.page.locator("#zoom-text").text_content()
    person.paint((200.5, 120.5))
    x, y = person.at(200.5, 120.5)
    person.page.keyboard.down("Space")
    person.page.mouse.down()
    person.page.mouse.move(x - 70, y + 40, steps=3)
    person.page.mouse.up()
    person.page.keyboard.up("Space")
    assert person.at(200.5, 120.5) == pytest.approx([x - 70, y + 40], abs=1)
    person.paint((212.5, 112.5))
    hole = person.hole()
    ys, xs = np.nonzero(hole)
    for x, y in ((30, 20), (200, 120), (212, 112)):
        near = np.hypot(xs - x, ys - y) < 6
        assert near.any(), (x, y)
        assert abs(xs[near].mean() - x) <= 0.5
        assert abs(ys[near].mean() - y) <= 0.5
        hole[max(y - 6, 0) : y + 7, x - 6 : x + 7] = False
    assert not hole.any()


def test_the_cursor_is_as_large_as_the_brush(tab):
    person = tab().opened()
    person.page.keyboard.press("b")
    person.brush(30)
    person.page.mouse.move(*person.at(100, 70))
    box = person.page.locator("#cursor").bounding_box()
    scale = person.at(101, 0)[0] - person.at(100, 0)[0]
    assert box["width"] == pytest.approx(30 * scale, abs=1)
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    assert middle == pytest.approx(person.at(100, 70), abs=1)
    person.page.locator("#viewport").focus()
    person.page.keyboard.press("]")
    larger = person.page.locator("#cursor").bounding_box()
    assert larger["width"] == pytest.approx(1.2 * 30 * scale, abs=1)


def test_cancel_ends_it_within_a_second_and_loses_nothing(tab, running):
    person = tab().opened()
    person.paint((60, 60), (150, 90))
    running.gate.open = False
    person.fill()
    running.gate.let(2)
    person.button("Cancel").click()
    person.page.locator("#progress").wait_for(state="hidden", timeout=1000)
    assert person.hole()[75, 105]
    running.gate.open = True
    person.filled()


def test_two_tabs_take_turns_and_see_their_places(tab, running):
    one, other = tab().opened(), tab().opened()
    running.gate.open = False
    for person in (one, other):
        person.paint((60, 60), (150, 90))
        person.fill()
        person.page.locator("#progress").wait_for()
    other.page.get_by_text("Waiting: 1 before this one").wait_for()
    running.gate.open = True
    for person in (one, other):
        person.page.locator("#thumbs button").first.wait_for()


def test_a_reload_keeps_photograph_strokes_and_results(tab):
    person = tab().opened()
    person.paint((60, 60), (150, 90))
    hole = person.hole()
    person.filled()
    person.page.wait_for_timeout(200)
    person.page.reload()
    person.page.locator("#thumbs button").first.wait_for()
    np.testing.assert_array_equal(person.hole(), hole)


def test_a_result_is_compared_and_painted_on(tab):
    person = tab().opened()
    person.brush(30)
    person.paint((100, 70), (110, 70))
    person.filled()
    shown = person.seen(105, 70)
    person.page.locator("#viewport").focus()
    person.page.keyboard.down("c")
    person.page.wait_for_timeout(100)
    assert (person.seen(105, 70) != shown).any()
    person.page.keyboard.up("c")
    first = pixels_of(person.downloaded("Download"))
    person.button("Use this result and paint on").click()
    person.page.locator("#results").wait_for(state="hidden")
    assert not person.hole().any()
    person.paint((180, 30))
    hole = person.hole()
    person.filled()
    second = pixels_of(person.downloaded("Download"))
    np.testing.assert_array_equal(second[~hole], first[~hole])
    assert person.page.locator("#sets li").count() == 2


def test_earlier_results_rest_while_a_hole_is_filled(tab, running):
    person = tab().opened()
    person.paint((60, 60), (150, 90))
    person.filled()
    person.button("Use this result and paint on").click()
    person.paint((180, 30))
    person.filled()
    photo = "async () => (await import('/main.js')).stage.photo.id"
    before = person.page.evaluate(photo)
    running.gate.open = False
    person.fill()
    person.page.locator("#progress").wait_for()
    person.page.locator("#sets button").nth(1).click(force=True)
    person.page.wait_for_timeout(300)
    assert person.page.evaluate(photo) == before
    running.gate.open = True
    person.page.locator("#progress").wait_for(state="hidden")
    person.page.locator("#sets button").nth(2).click()
    person.page.locator("#sets li:nth-child(3) [aria-current=true]").wait_for()


def test_what_is_painted_is_not_left_without_asking(tab):
    person = tab().opened()
    person.paint((100, 70), (110, 70))
    person.filled()
    person.button("Use this result and paint on").click()
    person.page.locator("#results").wait_for(state="hidden")
    person.paint((180, 30))
    person.filled()  # of another photograph, so that there is a history
    person.paint((20, 120))
    hole = person.hole()
    asked = []
    person.page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    person.page.locator("#sets button").last.click()
    person.page.wait_for_timeout(200)
    assert "not filled yet" in asked[0]
    np.testing.assert_array_equal(person.hole(), hole)
    person.page.once("dialog", lambda dialog: dialog.accept())
    person.page.locator("#sets button").last.click()
    person.page.wait_for_timeout(300)
    assert not person.hole()[120, 20]


def test_masks_come_and_go_as_files(tab):
    person = tab().opened()
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[40:60, 100:130] = 0
    file = {"name": "mask.png", "mimeType": "image/png", "buffer": png(mask)}
    person.page.locator("#mask-file").set_input_files(file)
    person.page.wait_for_function("() => !document.getElementById('undo').disabled")
    np.testing.assert_array_equal(person.hole(), mask == 0)
    file["buffer"] = png(mask[:50])
    person.page.locator("#mask-file").set_input_files(file)
    assert "the mask has 240 x 50 pixels, but the photograph 240 x 150" in person.told().lower()
    np.testing.assert_array_equal(person.hole(), mask == 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(PIXELS)[:300], "file"),
        (b"not a picture", "no picture that can be read here"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC, the format of iPhones"),
    ],
)
def test_what_cannot_be_read_is_said_and_nothing_is_lost(tab, content, words):
    person = tab().opened()
    person.paint((60, 60), (150, 90))
    hole = person.hole()
    person.open(content=content)
    assert words in person.told()
    np.testing.assert_array_equal(person.hole(), hole)


def test_a_full_queue_is_said_and_the_hole_stays(tab, running, monkeypatch):
    person = tab().opened()
    person.paint((60, 60), (150, 90))
    monkeypatch.setattr("repaint_jax.web.jobs.MOST_WAITING", 0)
    person.fill()
    assert "others are waiting already" in person.told()
    assert person.button("Fill the hole").is_enabled()
    assert person.hole().any()


def test_a_photograph_is_dropped_or_pasted(tab):
    script = """([bytes, kind]) => {
        const file = new File([new Uint8Array(bytes)], "a.png", { type: "image/png" });
        const data = new DataTransfer();
        data.items.add(file);
        const name = kind === "drop" ? "dataTransfer" : "clipboardData";
        const event = new (kind === "drop" ? DragEvent : ClipboardEvent)(kind, {
            bubbles: true, cancelable: true, [name]: data,
        });
        document.body.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        person = tab()
        person.page.evaluate(script, [list(png(PIXELS)), kind])
        person.page.locator("#tools").wait_for()


def test_all_is_done_by_keys_alone(tab):
    person = tab()
    keyboard = person.page.keyboard
    for _ in range(12):  # to the portrait
        keyboard.press("Tab")
        if person.page.evaluate("() => document.activeElement.id") == "welcome-portrait":
            break
    keyboard.press("Enter")
    person.page.locator("#tools").wait_for()
    assert person.page.evaluate("() => document.activeElement.id") == "viewport"
    keyboard.press("Enter")  # puts the brush down in the middle
    for _ in range(5):
        keyboard.press("Shift+ArrowRight")
    keyboard.press("Enter")
    hole = person.hole()
    ys, xs = np.nonzero(hole)
    assert np.ptp(xs) > 4 * np.ptp(ys) > 20
    person.page.locator("#viewport").focus()
    keyboard.press("Control+Enter")
    person.page.locator("#thumbs button").first.wait_for()
    assert "Result 1 of" in person.page.locator("#said").text_content()


def test_a_phone_has_room_for_it(tab):
    person = tab(viewport={"width": 375, "height": 667}, has_touch=True, is_mobile=True).opened()
    assert person.page.evaluate("() => document.documentElement.scrollWidth") <= 375
    person.page.touchscreen.tap(*person.at(120, 75))
    assert person.hole()[75, 120]
    for name in ("Undo", "Redo", "Zoom in", "Fit the picture"):
        box = person.button(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 375
    person.filled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(tab, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def serious(page):
        found = axe.run(page).response["violations"]
        return [
            (each["id"], [node["html"][:90] for node in each["nodes"]])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

    person = tab(color_scheme=scheme, bypass_csp=True)
    assert serious(person.page) == []
    person.opened()
    person.page.locator("summary").click()
    person.paint((60, 60), (150, 90))
    person.filled(2)
    person.button("Mask: load, save, colour").click()
    assert serious(person.page) == []
