"""The verdict on a run in words: what it is worth, where it fails, what one would do next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maskwright.config import Recipe, flatten
from maskwright.metrics.anatomy import WORDS
from maskwright.metrics.counts import Confusion
from maskwright.metrics.scores import Score, Scores

GOOD, POOR = 0.9, 0.5
"""Dice of a picture: fit for use nearly everywhere; mostly wrong."""
FEW_GROUPS = 10
"""Fewer pictures or groups cannot say how a score varies."""
RARE = 0.02
"""Share of the pixels under which a class is called rare."""
MANY = 0.2
"""Share of pictures from which on failing is no exception."""
NAMED = 3
"""Pictures that a sentence names; the rest is counted."""
STEPS = 3

MENDED_BY = {
    "missed": "Train on more pictures like those whose objects it misses (the worst show which), or augment more.",
    "invented": "Train on more pictures without objects, or with what it takes for one (the worst show what).",
    "swap": "See what is taken for what: classes that people confuse too can be one; others need more pictures.",
    "hole": "Let it see more of the picture at once: a deeper network, or a smaller input size.",
}
MAKES_TEST = "splits: {train: train.txt, test: test.txt} in dataset.yaml"
"""What gives data a test split."""
SEEN = {"test": ", which training never saw", "validation": ", which also chose the best epoch"}


@dataclass(frozen=True)
class Step:
    """What one would do next, and how it is typed."""

    text: str
    code: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a reader should know who reads nothing else."""

    lead: str
    findings: tuple[str, ...]
    warnings: tuple[str, ...]
    steps: tuple[Step, ...]


def verdict(
    name: str,
    recipe: Recipe,
    scores: Mapping[str, Scores],
    metrics: Sequence[Mapping[str, float]] = (),
    best_epoch: int = 0,
    *,
    testable: bool = True,
) -> Verdict:
    """On the first of `scores`, which there must be; `metrics` are the rows of metrics.csv; `testable`: its data have
    a test split."""
    split, judged = next(iter(scores.items()))
    return Verdict(
        lead=_lead(judged),
        findings=tuple(_findings(split, judged)),
        warnings=tuple(_sentence(note) for note in judged.advice),
        steps=tuple(_steps(name, recipe, scores, metrics, best_epoch, testable))[:STEPS],
    )


def main_metric(scores: Scores) -> tuple[str, str]:
    """The metric that the page is about, and its name for reading."""
    return ("dice_image", "Dice per image") if len(scores.per_class) == 2 else ("miou", "Mean IoU")


def number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    """Whole percents, but what is not nothing is never 0 %."""
    return "under 1\u00a0%" if 0 < share < 0.005 else f"{share:.0%}".replace("%", "\u00a0%")


def changes(recipe: Recipe) -> list[tuple[str, str]]:
    """What differs from the defaults, key by key."""
    usual = flatten(Recipe().model_dump(mode="json"))
    here = flatten(recipe.model_dump(mode="json"))
    return [(key, plain(value)) for key, value in here.items() if value != usual.get(key)]


def plain(value: object) -> str:
    """As a person would write it after `key=`."""
    if isinstance(value, list):
        return ",".join(plain(entry) for entry in value)
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def confused(confusion_KK: Confusion, names: Sequence[str], most: int = 5) -> list[tuple[str, str, float]]:
    """(truth, prediction, share of the truth's pixels), the largest shares first; under 1 % nothing is said."""
    shares = shares_of_truth(confusion_KK)
    np.fill_diagonal(shares, 0.0)
    order = np.argsort(-shares, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [(names[t], names[p], float(shares[t, p])) for t, p in pairs if shares[t, p] >= 0.01]


def shares_of_truth(confusion_KK: Confusion) -> np.ndarray:
    """Each row divided by its sum, K K in [0, 1]; 0 where a class has no pixels."""
    shares: np.ndarray = confusion_KK / np.maximum(confusion_KK.sum(1, keepdims=True), 1)
    return shares


def _lead(scores: Scores) -> str:
    classes = [entry.name for entry in scores.per_class]
    told = f"{classes[1]} from {classes[0]}" if len(classes) == 2 else f"{len(classes)} classes"
    key, _ = main_metric(scores)
    how = "a Dice of {} per picture" if key == "dice_image" else "a mean IoU of {}"
    apart = "" if len(classes) == 2 else " apart"
    return f"It tells {told}{apart} with {how.format(_text(scores[key]))}."


def _findings(split: str, scores: Scores) -> Iterator[str]:
    pictures = number(scores.n_images, "picture")
    key, _ = main_metric(scores)
    yield f"Measured on the {pictures} of the {split} split{SEEN.get(split, '')}."
    low, high = scores[key].ci95
    if not math.isnan(low + high):
        drawn = pictures if scores.n_groups == scores.n_images else number(scores.n_groups, "group")
        yield (
            f"With other pictures of the same kind it would lie between {low:.3f} and {high:.3f} "
            f"(95\u00a0% interval from resampling {drawn})."
        )
    yield from _tail(scores)
    if len(scores.per_class) > 2:
        yield from _extremes(scores)
    if scores.anatomy and (worst := scores.anatomy[0]).miou_gain > 0:
        gain = f"{worst.miou_gain:+.3f} mean IoU"
        yield f"Most is lost to {WORDS[worst.kind]}: {percent(worst.share)} of the wrong pixels, {gain} if mended."


def _tail(scores: Scores) -> Iterator[str]:
    """Which pictures it fails on: a few by name, a large part as a part."""
    values = {id: value for id, value in scores.by_image().items() if not math.isnan(value)}
    if not values:
        yield "No picture has a foreground."
        return
    ranked = sorted(values, key=lambda id: (values[id], id))
    poor = [id for id in ranked if values[id] < POOR]
    middle = float(np.median(list(values.values())))
    good = sum(value >= GOOD for value in values.values()) / len(values)
    reach = f"; {percent(good)} reach {GOOD}" if good else ""
    yield f"Half of the pictures have a Dice of {middle:.3f} or more{reach}."
    share = percent(len(poor) / len(values))
    if not poor:
        yield f"None stays under {POOR}; the hardest is {ranked[0]} with {values[ranked[0]]:.3f}."
    elif len(poor) > MANY * len(values):
        hardest = f"the hardest are {', '.join(poor[:NAMED])}"
        yield f"{len(poor)} of {len(values)} pictures ({share}) stay under {POOR}; {hardest}."
    else:
        more = f" and {len(poor) - NAMED} more" if len(poor) > NAMED else ""
        which = f"{number(len(poor), 'picture')} ({share} of them, under {POOR})"
        yield f"It fails on {which}: {', '.join(poor[:NAMED])}{more}."


def _extremes(scores: Scores) -> Iterator[str]:
    """The class that it knows best and those that it hardly knows."""
    known = sorted(
        (entry for entry in scores.per_class if not math.isnan(entry.iou_global)),
        key=lambda entry: entry.iou_global,
    )
    if len(known) < 2:
        return
    worst, best = known[0], known[-1]
    yield f"Best class: {best.name}, IoU {best.iou_global:.3f}. Weakest: {worst.name}, IoU {worst.iou_global:.3f}."


def _steps(
    name: str,
    recipe: Recipe,
    scores: Mapping[str, Scores],
    metrics: Sequence[Mapping[str, float]],
    best_epoch: int,
    testable: bool,
) -> Iterator[Step]:
    split, judged = next(iter(scores.items()))
    if split == "validation" and testable:
        yield Step(
            "Score it on pictures that chose nothing: these chose the epoch, so the number flatters.",
            f"maskwright evaluate {name} --split test",
        )
    elif split == "validation":
        yield Step(
            "Keep pictures for a test, or cross-validate (train --folds 5): these chose the epoch, so the number "
            "flatters, and the data have no test split.",
            MAKES_TEST,
        )
    if judged.n_groups < min(FEW_GROUPS, judged.n_images):
        few = number(judged.n_groups, "group")
        yield Step(f"Score it on more groups (scenes, patients, videos): {few} cannot say how it varies.")
    elif judged.n_images < FEW_GROUPS:
        yield Step(f"Score it on more pictures: {judged.n_images} cannot say how it varies.")
    yield from _of_training(metrics, best_epoch)
    yield from _of_classes(recipe, judged)
    yield from _of_errors(recipe, judged)
    if not any(recipe.augment.model_dump()[key] for key in ("flip", "rotate", "scale", "brightness")):
        yield Step("Train on varied pictures: this recipe augments nothing.", "augment.flip=true")
    yield Step("Look at the worst and the most uncertain examples: their labels may be what is wrong.")


def _of_errors(recipe: Recipe, scores: Scores) -> Iterator[Step]:
    """What mends the kind of error that costs most."""
    if not scores.anatomy or not scores.anatomy[0].miou_gain > 0:
        return
    kind = scores.anatomy[0].kind
    if kind == "slip":
        height, width = recipe.input.size
        yield Step(
            f"Let it see finer: it loses most at contours, and sees pictures at {height} × {width}.",
            f"input.size={2 * height},{2 * width}",
        )
    else:
        yield Step(MENDED_BY[kind])


def _of_training(metrics: Sequence[Mapping[str, float]], best_epoch: int) -> Iterator[Step]:
    """Too short, or too long already."""
    losses = [row.get("val_loss", math.nan) for row in metrics]
    scored = [row.get("val_dice_image", math.nan) for row in metrics]
    if len(metrics) < 5 or any(math.isnan(value) for value in losses + scored):
        return
    late = len(metrics) - max(1, len(metrics) // 10)
    if max(scored[late:]) > max(scored[:late]) + 0.003:
        yield Step("Train longer: validation was still rising in the last tenth of the run.")
    elif best_epoch < 0.6 * len(metrics) and losses[-1] > 1.1 * min(losses):
        yield Step(
            f"More epochs would not help: validation loss has risen since epoch {losses.index(min(losses)) + 1}. "
            "More pictures, stronger augmentation or a smaller network would."
        )


def _of_classes(recipe: Recipe, scores: Scores) -> Iterator[Step]:
    """Rare classes that it hardly finds."""
    if len(scores.per_class) < 3:
        return
    total = max(sum(entry.pixels for entry in scores.per_class), 1)
    poor = [
        entry.name for entry in scores.per_class if entry.iou_global < POOR and entry.pixels / total < RARE
    ]
    if not poor:
        return
    named = ", ".join(poor[:NAMED]) + (f" and {len(poor) - NAMED} more" if len(poor) > NAMED else "")
    rare = f"Rare classes hold the mean down ({named}, each under {RARE:.0%} of the pixels)"
    if recipe.loss.class_weights == "none":
        yield Step(f"{rare}: let them weigh more.", "loss.class_weights=balanced")
    else:
        yield Step(f"{rare}, though the loss weighs them already: they need more pictures, or larger ones.")


def _text(score: Score) -> str:
    return "–" if math.isnan(score.value) else f"{score.value:.3f}"


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:] + ("" if note.endswith(".") else ".")
