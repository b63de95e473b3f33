"""The page of a triage in a real browser: decisions become a dataset.yaml that opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.browser import BROWSER, MARKS, QUIET

from maskwright.data.dataset import open_dataset
from maskwright.draw import jpeg
from maskwright.tensors import IGNORE
from maskwright.triage.disputes import Region
from maskwright.triage.page import page
from maskwright.triage.run import Case, Exhibit, Triage

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = MARKS
NAMES = ["a", "b b", "c: [d], 'e' \"f\" #g", "é✓\u2028", "<script>window.hacked=1</script>", "007", "f"]
EXCLUDED, BOXED = "f", "b b"


@pytest.fixture
def found(tmp_path: Path) -> Triage:
    """A data set with difficult ids, of which one is excluded and one has a box already."""
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (len(NAMES), 24, 24, 3)).astype(np.uint8)
    masks = random.integers(0, 2, (len(NAMES), 24, 24)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", images=images, masks=masks, ids=np.array(NAMES))
    (tmp_path / "dataset.yaml").write_text(
        f"format: npz\nimages: data.npz\nclasses: [ground, thing]\nvalidation: {{fraction: 0}}\n"
        f"exclude: [{EXCLUDED}]\nignore: {{{BOXED}: [[0, 0, 2, 2]]}}\n"
    )
    dataset = open_dataset(tmp_path / "dataset.yaml")
    region = Region((3, 4, 5, 6), 20, 0, 1, 1.0)
    plain = jpeg(np.full((24, 24, 3), 90, np.uint8))
    cases = tuple(Case(item.id, item.split, False, (region,)) for item in dataset.items)
    exhibits = {case.id: Exhibit(plain, plain, plain) for case in cases}
    return Triage("made", dataset, dataset.source, cases, exhibits, ())


def test_decisions_are_saved(found: Triage, tmp_path: Path) -> None:
    (tmp_path / "triage.html").write_text(page(found), encoding="utf-8")
    choices = dict(
        zip(
            [case.id for case in found.cases],
            ["keep", "ignore", "ignore", "drop", "drop", "ignore"],
            strict=True,
        )
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=QUIET)
        tab = browser.new_page(viewport={"width": 390, "height": 844}, accept_downloads=True)
        faults: list[str] = []
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto((tmp_path / "triage.html").as_uri())
        for number, choice in enumerate(choices.values(), 1):
            tab.locator(f"input[name=case-{number}][value={choice}] + span").click()
        assert tab.locator("#count").inner_text() == "2 labels dropped, regions of 3 labels ignored"
        with tab.expect_download() as download:
            tab.locator("#save").click()
        download.value.save_as(tmp_path / "decided.yaml")
        name = download.value.suggested_filename
        assert tab.evaluate("window.hacked") is None
        wide = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        browser.close()
    assert faults == []
    assert wide <= 0
    assert name == "dataset.yaml"
    dataset = open_dataset(tmp_path / "decided.yaml")
    kept = {item.id: item.ignored for item in dataset.items}
    box = (3, 4, 5, 6)
    assert kept == {
        name: {"keep": (), "ignore": ((0, 0, 2, 2), box) if name == BOXED else (box,)}[choice]
        for name, choice in choices.items()
        if choice != "drop"
    }
    item = next(item for item in dataset.items if item.id == "007")
    assert (dataset.mask(item)[3:8, 4:10] == IGNORE).all()
