"""The page in a real browser: on a desk and on a phone, dark and light, with and without scripts, and printed."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.browser import BROWSER, MARKS, QUIET

from maskwright.config import ModelConfig, Recipe
from maskwright.draw import jpeg
from maskwright.metrics.measures import Tallies
from maskwright.metrics.scores import Scores, scores
from maskwright.report.cite import works
from maskwright.report.gallery import Exhibit
from maskwright.report.html import ReportInput, Split, render_report
from maskwright.runfolder import METRIC_COLUMNS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = MARKS
WINDOWS = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}

EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
NAMES = ("background", "a class with a rather long name of its own", EVIL, *(f"class {k}" for k in range(8)))
RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)


def solid(colour: tuple[int, int, int]) -> bytes:
    return jpeg(np.full((96, 120, 3), colour, np.uint8))


def made_scores() -> Scores:
    random = np.random.default_rng(0)
    counts = random.integers(1, 900, (24, len(NAMES), 4)).astype(np.int64)
    counts[..., 3] = 0
    mended = np.repeat(counts[:, None], 5, 1)
    mended[..., 2] = mended[..., 2] * np.array([4, 6, 8, 9, 9])[:, None] // 10
    objects = np.sort(random.integers(0, 9, (24, 3, 5)).astype(float))[..., ::-1]
    pixels = random.integers(0, 900, (24, 15))
    sure = pixels * (np.arange(15) + 0.5) / 15
    bins = np.stack([pixels, sure, sure * random.uniform(0.7, 1.1, (24, 15))], -1)
    tallies = Tallies(
        counts,
        anatomy_NEK4=mended.astype(np.int32),
        objects_NS5=objects,
        bins_NB3=bins,
        bins_before_NB3=bins,
        brier_N=pixels.sum(1) * 0.2,
        quality_N=random.uniform(0.2, 0.9, 24),
    )
    found = scores(tallies, [f"a/picture/with/a/long/name_{number:03}" for number in range(24)], NAMES)
    confusion = random.integers(0, 50, (len(NAMES), len(NAMES))) + np.diag([500] * len(NAMES))
    return replace(found, confusion_KK=confusion, advice=("only 3 groups: the intervals say little",))


def made_page() -> str:
    """Every section, from pictures of one colour each: the picture is red, its truth green, the prediction blue."""
    picture, truth, prediction = (solid(colour) for colour in (RED, GREEN, BLUE))
    rows = [dict.fromkeys(METRIC_COLUMNS, 1 / epoch) | {"epoch": float(epoch)} for epoch in range(1, 30)]
    return render_report(
        ReportInput(
            name="a-run-with-quite-a-long-name-20261121-130501",
            recipe=Recipe(model=ModelConfig(width=48)),
            dataset={"name": EVIL, "format": "camvid", "mask values": "0 → sky, 1 → building, " * 6},
            classes=[(name, (20 * k, 255 - 20 * k, 128)) for k, name in enumerate(NAMES)],
            splits=[Split(name, 100, 3, tuple([1 / len(NAMES)] * len(NAMES))) for name in ("train", "test")],
            metrics=rows,
            best_epoch=20,
            scores={"test": made_scores(), "validation": made_scores(), "test-flips": made_scores()},
            galleries={
                "test": [
                    Exhibit(kind, f"{EVIL} {number}", 0.9, picture, truth, prediction, expected=0.3)
                    for kind in ("best", "median", "worst", "uncertain")
                    for number in range(4)
                ]
            },
            receipt={"torch": "2.11", "hardware": "a processor of some name with many words in it " * 3},
            works=works(ModelConfig(name="resnet34-unet"), "camvid", "0.1.0"),
        )
    )


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(made_page(), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield opened
        opened.close()


class Watched:
    """A page, and all that it complained about or asked the network for."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def colour(self, selector: str) -> list[float]:
        """Mean colour of the left and the right quarter of an element as it is seen, below the labels and above the
        handle's knob: [left red, green, blue, right red, green, blue]."""
        shot = self.page.locator(selector).first.screenshot()
        seen = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), np.float64)
        height, width, _ = seen.shape
        rows = seen[height // 3 : height * 2 // 3]
        left, right = rows[:, width // 8 : width // 4], rows[:, width * 3 // 4 : width * 7 // 8]
        return [*left.mean((0, 1)), *right.mean((0, 1))]


@pytest.fixture(params=[(size, theme) for size in WINDOWS for theme in ("light", "dark")], ids="-".join)
def watched(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Watched]:
    size, theme = request.param
    found = Watched(browser, page_file, viewport=WINDOWS[size], color_scheme=theme, has_touch=size == "phone")
    yield found
    found.context.close()


OVERFLOW = """() => {
  const wide = [...document.querySelectorAll("main *, header *, footer *")].filter(element => {
    if (element.closest(".scroll, pre, svg, .frame") && !element.matches(".scroll, pre, .frame")) return false;
    const box = element.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
  });
  return [document.documentElement.scrollWidth, innerWidth, wide.map(element => element.outerHTML.slice(0, 80))];
}"""

CONTRAST = """() => {
  const channels = text => { const parts = text.match(/[\\d.]+/g).map(Number); return [...parts, 1].slice(0, 4); };
  const over = (above, below) => [0, 1, 2].map(i => above[i] * above[3] + below[i] * (1 - above[3]));
  const light = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = element => {
    const colour = channels(getComputedStyle(element).backgroundColor);
    if (colour[3] >= 1) return colour;
    return over(colour, element.parentElement ? ground(element.parentElement) : [255, 255, 255, 1]);
  };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest("script") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), below = ground(element);
    const front = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(over(channels(front), below)), light(below)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push([ratio.toFixed(2), texts.currentNode.data.trim().slice(0, 40)]);
  }
  return poor;
}"""


def test_nothing_overflows_complains_or_calls_out(watched: Watched, page_file: Path) -> None:
    across, inner, wide = watched.page.evaluate(OVERFLOW)
    assert across <= inner
    assert not wide
    images = watched.page.evaluate(
        "[...document.images].map(image => image.complete && image.naturalWidth > 0)"
    )
    assert len(images) == 16 * 3 + 3 + 2
    assert all(images)
    assert not watched.complaints
    assert [url for url in watched.requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert watched.page.evaluate("window.hacked") is None


def test_all_text_can_be_read(watched: Watched) -> None:
    watched.page.evaluate("document.querySelectorAll('details').forEach(folded => { folded.open = true; })")
    assert watched.page.evaluate(CONTRAST) == []


def test_the_slider_uncovers_truth_and_picture(watched: Watched) -> None:
    slider = watched.page.locator(".frame input").first
    assert watched.colour(".frame") == pytest.approx([*GREEN, *BLUE], abs=12)
    slider.focus()
    watched.page.keyboard.press("End")
    assert watched.colour(".frame") == pytest.approx([*GREEN, *GREEN], abs=12)
    watched.page.keyboard.press("Home")
    assert watched.colour(".frame") == pytest.approx([*BLUE, *BLUE], abs=12)
    watched.page.get_by_text("picture", exact=True).first.click()
    slider.fill("100")
    assert watched.colour(".frame") == pytest.approx([*RED, *RED], abs=12)
    assert not watched.complaints


def test_the_handle_follows_the_finger(watched: Watched) -> None:
    frame = watched.page.locator(".frame").nth(5)
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    middle = box["y"] + box["height"] / 2
    watched.page.mouse.move(box["x"] + box["width"] / 2, middle)
    watched.page.mouse.down()
    watched.page.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=4)
    watched.page.mouse.up()
    assert float(frame.locator("input").input_value()) == pytest.approx(80, abs=2)
    handle = frame.locator(".handle").bounding_box()
    assert handle["x"] + handle["width"] / 2 - box["x"] == pytest.approx(0.8 * box["width"], abs=4)


SQUEEZED = """() => [...document.querySelectorAll("tbody th")].filter(cell => {
  const box = cell.getBoundingClientRect();
  return box.height > (cell.closest(".matrix") ? 40 : 170) || (box.width < 60 && box.height > 60);
}).map(cell => cell.textContent)"""


def test_tables_are_not_squeezed_to_letters(watched: Watched) -> None:
    assert watched.page.evaluate(SQUEEZED) == []


def test_headings_are_in_order(watched: Watched) -> None:
    levels = watched.page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert watched.page.evaluate("document.querySelector('section h2').textContent") == "Verdict"


def side_by_side(page: Any) -> None:
    boxes = [page.locator(".part img").nth(number).bounding_box() for number in range(3)]
    assert all(box["width"] > 50 for box in boxes)
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert boxes[1]["x"] + boxes[1]["width"] <= boxes[2]["x"]
    assert all(page.locator(".part img").nth(number).is_visible() for number in range(3))


@pytest.mark.parametrize("size", WINDOWS)
def test_without_scripts_the_three_stand_side_by_side(browser: Any, page_file: Path, size: str) -> None:
    found = Watched(browser, page_file, viewport=WINDOWS[size], java_script_enabled=False)
    side_by_side(found.page)
    assert found.page.locator(".frame input").first.is_hidden()
    found.context.close()


def test_printed_the_three_stand_side_by_side(browser: Any, page_file: Path) -> None:
    found = Watched(browser, page_file, viewport={"width": 720, "height": 1000}, color_scheme="dark")
    found.page.emulate_media(media="print")
    side_by_side(found.page)
    assert found.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert found.page.evaluate(CONTRAST) == []
    found.context.close()
