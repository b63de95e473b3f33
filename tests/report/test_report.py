"""The report and the model card of a run: every figure is there, nothing from a file name is markup."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from maskwright.config import InputConfig, LossConfig, ModelConfig, Recipe, make_recipe
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.errors import RunError
from maskwright.evaluation import evaluate
from maskwright.metrics.scores import Score, Scores, scores
from maskwright.predict.model_folder import ModelSpec, build_from_spec, save_model
from maskwright.predict.predictor import Predictor
from maskwright.report.build import build_report, read_card, read_report_input
from maskwright.report.card import model_card
from maskwright.report.gallery import Exhibit, choose, load_gallery, save_gallery
from maskwright.report.html import ReportInput, Split, render_report
from maskwright.runfolder import METRIC_COLUMNS, RunFolder

EVIL = '<script>alert("x")</script>'
JPEG = b"\xff\xd8"
CLASSES = (("background", (0, 0, 0)), ("pet", (230, 159, 0)))
SPEC = ModelSpec(
    model=ModelConfig(width=4, depth=2),
    input=InputConfig(size=(16, 16), channels=3),
    classes=("background", "pet"),
    colours=((0, 0, 0), (230, 159, 0)),
    mean=(0.5,) * 3,
    deviation=(0.2,) * 3,
    epoch=2,
)
ROWS = [
    dict.fromkeys(METRIC_COLUMNS, 0.5) | {"epoch": 1.0, "seconds": 40.0},
    dict.fromkeys(METRIC_COLUMNS, 0.6) | {"epoch": 2.0, "seconds": 90.0},
]


def made_scores(names: tuple[str, ...] = ("background", "pet")) -> Scores:
    """12 pictures with Dice from 0.1 to 1 on the last class."""
    counts = np.zeros((12, len(names), 4), np.int64)
    for picture in range(12):
        right = 8 * (picture + 1)
        counts[picture, :-1] = 900, 96 - right, 96 - right, 0
        counts[picture, -1] = right, 96 - right, 96 - right, 96 - right
    made = scores(counts, [f"cat_{number:02}" for number in range(12)], names)
    shown = {
        name: Score(each.value, (each.value - 0.1, each.value + 0.1)) for name, each in made.metrics.items()
    }
    return replace(made, metrics=shown)  # so few pictures have no interval of their own


def report_input(**changes: object) -> ReportInput:
    usual = ReportInput(
        name="pets",
        recipe=Recipe(),
        dataset={"name": "pets", "format": "oxford-pet"},
        classes=CLASSES,
        metrics=ROWS,
        best_epoch=2,
        scores={"test": made_scores()},
        receipt={"torch": "2.11"},
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


NONE = (math.nan, math.nan)


class Outline(HTMLParser):
    """What a browser would see: open tags must be closed, and links must stay inside the file."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.policy = ""
        self.text = ""
        self.feed(page)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"] or ""
        assert not [name for name, _ in attrs if name.startswith("on")], "handlers in attributes"
        if tag not in ("meta", "img", "source", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_the_figures_and_their_intervals() -> None:
    given = made_scores()
    text = Outline(render_report(report_input())).text
    dice = given["dice_image"]
    for number in (dice.value, *dice.ci95, given["miou"].value, given.per_class[1].iou_global):
        assert f"{number:.3f}" in text
    assert "12 pictures of the test split, which training never saw" in text
    assert "2 epochs in 1.5 minutes; the model is that of epoch 2" in text
    assert given.contract.hash in text


def test_of_many_classes_the_mean_iou_comes_first() -> None:
    names = ("sky", "road", "car")
    given = made_scores(names)
    page = render_report(
        report_input(scores={"validation": given}, classes=[(name, (9, 9, 9)) for name in names])
    )
    assert f"It tells 3 classes apart with a mean IoU of {given['miou'].value:.3f}." in page
    assert "Measured on the 12 pictures of the validation split" in page
    assert all(name in page for name in names)


def test_the_page_stands_alone() -> None:
    """No address but data:, so that it opens offline and anywhere."""
    page = render_report(report_input(galleries={"test": [Exhibit("best", "a", 0.9, JPEG, JPEG, JPEG)]}))
    outline = Outline(page)
    assert outline.links
    assert all(link.startswith("data:image/") for link in outline.links)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in outline.policy


def test_the_only_script_is_the_one_that_the_policy_knows() -> None:
    page = render_report(report_input(name=EVIL))
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == Outline(page).tags.count("script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in Outline(page).policy


def test_a_run_without_scores_and_epochs_still_has_a_page() -> None:
    text = Outline(render_report(report_input(scores={}, metrics=()))).text
    assert "no scores yet" in text
    assert "maskwright evaluate pets" in text


def test_names_are_escaped_everywhere() -> None:
    page = render_report(
        report_input(
            name=EVIL,
            dataset={"name": EVIL, EVIL: EVIL},
            classes=[("background", (0, 0, 0)), (EVIL, (1, 2, 3))],
            scores={
                EVIL: replace(made_scores(("background", EVIL)), confusion_KK=np.array([[9, 1], [5, 5]]))
            },
            splits=[Split(EVIL, 3, 3, (0.25, 0.75))],
            galleries={EVIL: [Exhibit("best", f'" onerror="x{EVIL}', 0.9, JPEG, JPEG, JPEG)]},
            receipt={EVIL: EVIL},
        )
    )
    outline = Outline(page)
    assert outline.tags.count("script") == 1
    assert page.count("<script") == 1
    assert 'onerror="x' not in page
    assert outline.text.count(EVIL) >= 12


def test_only_what_differs_from_the_defaults_is_shown_first() -> None:
    recipe = Recipe(model=ModelConfig(width=48), loss=LossConfig(targets={"depth": "l1"}))
    page = render_report(report_input(recipe=recipe))
    changed = re.findall(r"<code>([\w.]+=[^<]*)</code>", page)
    assert changed == ["model.width=48", "loss.targets.depth=l1"]


def test_notes_of_the_scores_are_repeated() -> None:
    few = made_scores()
    page = render_report(report_input(scores={"test": replace(few, advice=("only 3 groups",))}))
    assert "<b>Note:</b> Only 3 groups." in page


def test_the_gallery_shows_best_median_and_worst_once() -> None:
    values = {f"{number:02}": number / 10 for number in range(10)} | {"none": float("nan")}
    assert choose(values, per_kind=2) == [
        ("best", "09"),
        ("best", "08"),
        ("median", "05"),
        ("median", "04"),
        ("worst", "00"),
        ("worst", "01"),
    ]


def test_the_most_uncertain_of_the_others_are_shown_behind() -> None:
    values = {f"{number:02}": number / 10 for number in range(10)} | {"none": float("nan")}
    expected = {id: value / 2 for id, value in values.items()} | {"none": 0.4, "05": 0.0, "07": float("nan")}
    chosen = choose(values, per_kind=1, expected=expected)
    assert chosen == [("best", "09"), ("median", "05"), ("worst", "00"), ("uncertain", "01")]
    assert choose(values, per_kind=1, expected={"none": 0.2})[-1] == ("uncertain", "none")


@pytest.mark.parametrize("count", range(8))
def test_few_pictures_are_not_shown_twice(count: int) -> None:
    chosen = [id for _, id in choose({str(number): 0.5 for number in range(count)}, per_kind=4)]
    assert len(set(chosen)) == len(chosen) <= count
    assert bool(chosen) == bool(count)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """24 pictures of a bright square, with its mask, in folders."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 12)):
        for number in range(count):
            mask = np.zeros((20, 24), np.uint8)
            top, left = random.integers(0, 10, 2)
            mask[top : top + 9, left : left + 9] = 1
            picture = np.repeat(
                (mask * 150 + random.integers(0, 90, mask.shape)).astype(np.uint8)[..., None], 3, 2
            )
            for kind, pixels in (("images", picture), ("masks", mask)):
                folder = tmp_path / "data" / split / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{split} & <{number}>.png")
    return open_dataset(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, dataset: Dataset) -> RunFolder:
    """A run folder as training leaves it, scored and with its gallery."""
    folder = RunFolder.create(tmp_path / "runs", "squares")
    spec = SPEC.model_copy(update={"classes": dataset.classes.names, "colours": dataset.classes.colours})
    torch.manual_seed(0)
    save_model(folder.model, spec, build_from_spec(spec).state_dict())
    folder.recipe_file.write_text(Recipe().to_yaml())
    folder.dataset_file.write_text(dataset.to_yaml())
    folder.write_metrics(ROWS)
    predictor = Predictor.load(folder.path, device="cpu")
    found = evaluate(predictor, dataset, split="test")
    found.save(folder.scores("test"))
    save_gallery(folder.scores("test"), predictor, dataset, found, split="test")
    return folder


def test_a_report_is_built_from_the_run_folder(run: RunFolder) -> None:
    page = build_report(run)
    assert page == run.path / "report.html"
    text = Outline(page.read_text(encoding="utf-8")).text
    with open(run.scores("test") / "per_image.csv", newline="", encoding="utf-8") as handle:
        best = max(
            float(row["dice"]) for row in csv.DictReader(handle) if row["class"] == "1" and row["dice"]
        )
    assert f"Dice {best:.3f}" in text
    said = json.loads((run.scores("test") / "scores.json").read_text())
    assert f"{said['metrics']['dice_image']['value']:.3f}" in text
    assert [(split.name, split.pictures) for split in read_report_input(run).splits] == [
        ("train", 8),
        ("validation", 4),
        ("test", 12),
    ]
    kept = Scores.load(run.scores("test"))
    assert kept.confusion_KK is not None
    assert kept.confusion_KK.sum(1).tolist() == [entry.pixels for entry in kept.per_class]
    assert "What is taken for what" in text
    assert "Where it goes wrong" in text
    assert "Whether it knows what it knows" in text
    exhibits = load_gallery(run.scores("test"))
    assert [exhibit.kind for exhibit in exhibits] == ["best"] * 4 + ["median"] * 4 + ["worst"] * 4
    assert all(exhibit.title in text for exhibit in exhibits)
    assert (run.model / "README.md").read_text(encoding="utf-8") == read_card(run)


def test_a_report_needs_no_data(run: RunFolder, dataset: Dataset) -> None:
    dataset.root.rename(dataset.root.with_name("moved"))
    assert "not on this machine any more" in read_report_input(run).dataset["pictures"]
    build_report(run)


def test_a_report_of_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        build_report(RunFolder(tmp_path))


def test_a_damaged_gallery_says_what_to_do(run: RunFolder) -> None:
    (run.scores("test") / "gallery" / "03-truth.jpg").unlink()
    with pytest.raises(RunError, match="maskwright evaluate"):
        build_report(run)


def test_the_card_has_a_header_that_parses_and_all_scores() -> None:
    given = made_scores()
    card = model_card(SPEC, name="pets", scores={"test": given}, recipe=Recipe(seed=7), dataset="pets")
    _, header, body = card.split("---\n", 2)
    said = yaml.safe_load(header)
    assert said["pipeline_tag"] == "image-segmentation"
    metrics = {entry["type"]: entry["value"] for entry in said["model-index"][0]["results"][0]["metrics"]}
    assert metrics["dice_image"] == pytest.approx(given["dice_image"].value, abs=1e-4)
    low, high = given["dice_image"].ci95
    assert f"{given['dice_image'].value:.3f} ({low:.3f}–{high:.3f})" in body
    assert "| 1 | pet | `#e69f00` |" in body
    assert "`seed=7`" in body


def test_the_card_writes_recipe_keys_as_they_are_typed() -> None:
    changed = make_recipe({"input.size": (64, 48), "model.encoder_weights": "a`b.safetensors"})
    card = model_card(SPEC, name="pets", recipe=changed)
    assert "- `input.size=64,48`\n" in card
    assert "- `model.encoder_weights=a'b.safetensors`\n" in card


def test_intervals_are_spoken_of_where_there_are_any() -> None:
    given = made_scores()
    few = replace(given, metrics={name: Score(each.value, NONE) for name, each in given.metrics.items()})
    few = replace(few, per_class=tuple(replace(e, iou_global_ci95=NONE) for e in given.per_class))
    assert "\nWith 95 % intervals; metric contract" in model_card(SPEC, name="a", scores={"test": given})
    assert "\nToo few pictures for 95 % intervals; metric" in model_card(SPEC, name="a", scores={"test": few})
    page = Outline(render_report(report_input(scores={"test": few}))).text
    assert page.count("Too few pictures for 95\xa0% intervals.") == 2
    assert "intervals stand beside" not in page
    page = Outline(render_report(report_input())).text
    assert "95\xa0% intervals stand beside. Numbers under different contracts" in page


def test_the_card_without_scores_says_so() -> None:
    card = model_card(SPEC, name="pets")
    assert "Not evaluated yet" in card
    assert "model-index" not in card


def test_names_on_the_card_are_no_markup() -> None:
    evil = "a|b\n# top [x](y) <b>`"
    spec = SPEC.model_copy(update={"classes": ("background", evil)})
    card = model_card(spec, name=evil, scores={evil: made_scores(("background", evil))}, dataset=evil)
    body = card.split("---\n", 2)[2]
    assert "\n# top" not in body
    assert not re.search(r"(?<!\\)[<\[]", body.replace("```", ""))
    assert r"a\|b \# top" in body
    rows = [line for line in body.splitlines() if line.startswith("| 1 |")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 4
