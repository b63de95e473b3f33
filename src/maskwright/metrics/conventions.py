"""The same predictions under the rules of other tools: why 0.618 here is 0.762 there.

All these scores are made of the same counts. They differ in a handful of decisions (`Rule`): which classes count,
whether pictures or pixels are averaged, what a class in neither mask is worth. So a tool's score is a rule, its value
follows from the counts of an evaluation without predicting anything again, and the difference to ours is explained by
going from our rule to theirs one decision at a time.

The rules are those of segmentation_models_pytorch 0.6, torchmetrics 1.9, MONAI 1.6 and scikit-learn 1.9, held against
these libraries by tests, and those that mmsegmentation 1.2, Hugging Face's `evaluate` and Keras 3 document. Pixels that
the contract leaves out (`ignore`, `drop_truth`) are left out for all of them, also where a tool has no way to do it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from maskwright.metrics.contract import MetricContract, Policy
from maskwright.metrics.counts import Counts
from maskwright.metrics.measures import STAND_IN, dice, divide, iou, mean, settle
from maskwright.metrics.scores import Scores


@dataclass(frozen=True)
class Rule:
    """How counts become one number: a ratio per class (and picture), then means of the ratios."""

    ratio: str
    """dice or iou."""
    classes: tuple[int, ...]
    """That count."""
    forgiven: bool = False
    """Pixels whose truth is class 0 are dropped, whatever was predicted there."""
    by_truth: bool = False
    """A class without truth pixels is undefined, even where it was predicted."""
    picturewise: bool = False
    """Pixels are divided per picture, and the mean is over pictures. Otherwise those of all pictures are added up
    before dividing."""
    over: Literal["mean", "sum", "truth", "pairs"] = "mean"
    """How classes become one number. mean: of their ratios; sum: pixels of all classes are added up before dividing;
    truth: mean with each class's truth pixels as weight; pairs: one mean over all pictures and classes together."""
    absent: Policy = "skip"
    """A class that is undefined: left out of the mean, or 0, or 1."""
    empty: Policy = "skip"
    """A picture with no defined class (picturewise only; it comes before `absent`)."""
    nothing: float = math.nan
    """What is said where nothing is defined at all."""


@dataclass(frozen=True)
class Convention:
    """A score of another tool, by its rule."""

    tool: str
    score: str
    """The call, as its users write it."""
    taken_for: str
    """The metric of ours that it is most easily taken for."""
    rule: Rule


@dataclass(frozen=True)
class Explained:
    """`metric` is `here` with us and `there` under the name of `score`, because ..."""

    metric: str
    here: float
    tool: str
    score: str
    there: float
    because: str

    @property
    def difference(self) -> float:
        return self.there - self.here


def explain(scores: Scores) -> tuple[Explained, ...]:
    """What other tools would say of the same masks, beside our metric that it is taken for; in the order of ours.

    Needs the counts of `scores` and nothing else.
    """
    names = tuple(entry.name for entry in scores.per_class)
    classes, rows = len(names), []
    for entry in conventions(classes):
        own = own_rule(entry.taken_for, scores.contract, classes)
        here, there = (apply(rule, scores.counts_NK4) for rule in (own, entry.rule))
        because = _because(own, entry.rule, scores.counts_NK4, names[0])
        rows.append(Explained(entry.taken_for, here, entry.tool, entry.score, there, because))
    return tuple(sorted(rows, key=lambda row: list(OWN).index(row.metric)))


def apply(rule: Rule, counts_NK4: Counts) -> float:
    """The score of N images under a rule, in [0, 1]; `rule.nothing` where nothing is defined."""
    counts = _without_background(counts_NK4) if rule.forgiven else counts_NK4
    counts = counts[:, list(rule.classes)]
    if rule.over == "sum":
        counts = counts.sum(1, keepdims=True)
    if not rule.picturewise:
        counts = counts.sum(0, keepdims=True)
    tp, fp, fn = np.moveaxis(counts[..., :3], -1, 0)  # each N C; 1 where summed
    ratios = (dice if rule.ratio == "dice" else iou)(tp, fp, fn)
    if rule.by_truth:
        ratios = np.where(tp + fn > 0, ratios, math.nan)
    empty = np.isnan(ratios).all(1, keepdims=True)
    ratios = settle(ratios, rule.absent)
    if rule.picturewise:
        ratios = np.where(empty, STAND_IN[rule.empty], ratios)
    if rule.over == "pairs":
        ratios = ratios.reshape(-1, 1)
    of_pictures = mean(ratios)
    if rule.over == "truth":
        of_pictures = divide(np.nansum(ratios * (tp + fn), -1), (tp + fn).sum(-1))
    score = float(mean(of_pictures))
    return rule.nothing if math.isnan(score) else score


OWN: dict[str, tuple[str, str, bool, bool]] = {
    "dice_image": ("dice", "foreground", True, False),
    "dice_global": ("dice", "foreground", False, False),
    "iou_image": ("iou", "foreground", True, False),
    "iou_global": ("iou", "foreground", False, False),
    "miou": ("iou", "all", False, False),
    "miou_fg": ("iou", "all but 0", False, False),
    "miou_fg_masked": ("iou", "all but 0", False, True),
}
"""Our metrics that others have as well: ratio, classes, picturewise, forgiven."""


def own_rule(metric: str, contract: MetricContract, classes: int) -> Rule:
    """A metric of OWN under a contract, as a rule."""
    ratio, which, picturewise, forgiven = OWN[metric]
    foreground = contract.resolved(classes).foreground or ()
    chosen = {"foreground": foreground, "all": _all(classes), "all but 0": _all(classes)[1:]}[which]
    absent = contract.absent
    return Rule(ratio, chosen, forgiven, False, picturewise, "mean", absent, contract.empty)


def conventions(classes: int) -> tuple[Convention, ...]:
    """The scores of other tools for data of so many classes."""
    return (
        *_smp(classes),
        *_torchmetrics(classes),
        *_monai(classes),
        *_mmsegmentation(classes),
        *_scikit_learn(classes),
        *_keras(classes),
    )


def _smp(classes: int) -> Iterator[Convention]:
    """An undefined ratio is 1 (`zero_division`), but not with micro, which does not look at it.

    The mode `binary` scores class 1 alone, and macro is micro there.
    """
    for ratio, function, whole in (("iou", "iou_score", "miou"), ("dice", "f1_score", "dice_global")):
        single, rule = f"{ratio}_image", Rule(ratio, _all(classes))
        if classes == 2:
            binary = replace(rule, classes=(1,))
            yield Convention("smp", f"{function}, binary, micro", f"{ratio}_global", binary)
            binary = replace(binary, picturewise=True, empty="one")
            yield Convention("smp", f"{function}, binary, micro-imagewise", single, binary)
        for taken_for, how, decisions in (
            (whole, "micro", {"over": "sum"}),
            (whole, "macro", {"absent": "one"}),
            (single, "micro-imagewise", {"picturewise": True, "over": "sum", "empty": "one"}),
            (single, "macro-imagewise", {"picturewise": True, "absent": "one", "empty": "one"}),
        ):
            yield Convention("smp", f"{function}, {how}", taken_for, replace(rule, **decisions))


def _torchmetrics(classes: int) -> Iterator[Convention]:
    every, some = _all(classes), _all(classes)[1:]

    def entry(score: str, taken_for: str, rule: Rule) -> Convention:
        return Convention("torchmetrics", score, taken_for, rule)

    pairs = Rule("iou", every, picturewise=True, over="pairs")
    yield entry("segmentation.MeanIoU", "miou", pairs)
    yield entry("segmentation.MeanIoU(include_background=False)", "miou_fg", replace(pairs, classes=some))
    picturewise = Rule("dice", every, picturewise=True)
    yield entry("segmentation.DiceScore", "dice_image", picturewise)
    without = replace(picturewise, classes=some)
    yield entry("segmentation.DiceScore(include_background=False)", "dice_image", without)
    micro = replace(picturewise, over="sum")
    yield entry("segmentation.DiceScore(average='micro'), the default before 1.9", "dice_image", micro)
    yield entry("JaccardIndex, macro", "miou", Rule("iou", every))
    yield entry("JaccardIndex, micro, as in TorchGeo", "miou", Rule("iou", every, over="sum", nothing=0.0))


def _monai(classes: int) -> Iterator[Convention]:
    """Where nothing is defined at all, 0. MeanIoU is picturewise as well, whatever its name says elsewhere."""
    for ratio, name in (("dice", "DiceMetric"), ("iou", "MeanIoU")):
        for background, ignore_empty in product((True, False), repeat=2):
            policy: Policy = "skip" if ignore_empty else "one"
            rule = Rule(
                ratio,
                _all(classes) if background else _all(classes)[1:],
                by_truth=ignore_empty,
                picturewise=True,
                absent=policy,
                empty=policy,
                nothing=0.0,
            )
            call = f"{name}(include_background={background}, ignore_empty={ignore_empty})"
            yield Convention("MONAI", call, f"{ratio}_image", rule)


def _mmsegmentation(classes: int) -> Iterator[Convention]:
    """Undefined ratios are NaN and left out; pixels of an ignored label are dropped from the prediction as well.

    Hugging Face's `mean_iou` is a copy of the same code. With reduce_labels the predictions are taken to be shifted by
    one as well, as those of a network without a background are.
    """
    every = _all(classes)
    for tool, call, off in (
        ("mmsegmentation", "mIoU", "mIoU with reduce_zero_label"),
        ("HF evaluate", "mean_iou", "mean_iou(reduce_labels=True)"),
    ):
        yield Convention(tool, call, "miou", Rule("iou", every))
        yield Convention(tool, off, "miou_fg", Rule("iou", every[1:], forgiven=True))
    yield Convention("mmsegmentation", "mDice", "dice_global", Rule("dice", every))
    yield Convention("HF evaluate", "mean_iou(ignore_index=0)", "miou_fg", Rule("iou", every, forgiven=True))


def _scikit_learn(classes: int) -> Iterator[Convention]:
    """On the pixels of all pictures in one row; the labels are those that occur."""
    if classes == 2:
        yield Convention("scikit-learn", "jaccard_score", "iou_global", Rule("iou", (1,), nothing=0.0))
    macro = Rule("iou", _all(classes))
    yield Convention("scikit-learn", "jaccard_score, macro", "miou", macro)
    yield Convention("scikit-learn", "jaccard_score, micro", "miou", replace(macro, over="sum"))
    yield Convention("scikit-learn", "jaccard_score, weighted", "miou", replace(macro, over="truth"))


def _keras(classes: int) -> Iterator[Convention]:
    yield Convention("Keras", "MeanIoU", "miou", Rule("iou", _all(classes)))
    masked = Rule("iou", _all(classes), forgiven=True)
    yield Convention("Keras", "MeanIoU of pixels whose truth is not 0", "miou_fg_masked", masked)


# Why they differ.

DECISIONS = ("forgiven", "classes", "by_truth", "picturewise", "over", "absent", "empty", "nothing")
"""In the order in which our rule becomes theirs."""

SAME = 1e-9
"""Less than this is no difference."""


def _because(own: Rule, theirs: Rule, counts_NK4: Counts, first: str) -> str:
    """The decisions that make the difference, with what each adds where there are several. first: name of class 0."""
    background = "the background" if first == "background" else f"{first} (class 0)"
    rule, value = own, apply(own, counts_NK4)
    decisive: list[tuple[str, float]] = []
    idle: list[str] = []
    for decision in DECISIONS:
        changed = replace(rule, **{decision: getattr(theirs, decision)})
        if changed == rule or (decision in _ONLY_PICTUREWISE and not theirs.picturewise):
            continue
        words = _words(decision, rule, changed, _all(counts_NK4.shape[1]), background)
        result = apply(changed, counts_NK4)
        if abs(result - value) > SAME or math.isnan(result) != math.isnan(value):
            decisive.append((words, result - value))
        elif decision != "nothing":  # there always is something, but for the oddest data
            idle.append(words)
        rule, value = changed, result
    if len(decisive) == 1:
        return decisive[0][0]
    if decisive:
        return _listed([f"{words} ({step:+.4f})" for words, step in decisive])
    return f"no difference here, although {_listed(idle)}" if idle else "the same rule"


_ONLY_PICTUREWISE = ("empty",)


def _words(decision: str, before: Rule, after: Rule, every: tuple[int, ...], background: str) -> str:
    """What changes from one rule to another that differs in one decision."""
    if decision == "classes" and (before.classes, after.classes) == (every[1:], every):
        if after.forgiven:
            return "class 0 joins the mean with IoU 0 once a single foreground pixel is predicted as 0"
        return f"{background} counts as a class"
    return {
        "classes": "all classes count" if after.classes == every else f"every class but {background} counts",
        "forgiven": f"pixels whose truth is {background} are dropped from the prediction as well",
        "by_truth": "a class that a picture's truth lacks is left out, even where it is predicted",
        "picturewise": _OVER_PICTURES[after.picturewise],
        "over": _OVER_CLASSES[after.over],
        "absent": f"a class in neither mask {_POLICY[after.absent]}",
        "empty": f"a picture with none of the classes {_POLICY[after.empty]}",
        "nothing": f"it is {after.nothing:g} where there is nothing to score",
    }[decision]


_POLICY = {"skip": "is left out", "zero": "scores 0", "one": "scores 1"}
_OVER_PICTURES = {
    True: "the mean is over pictures",
    False: "the pixels of all pictures are added up before dividing",
}
_OVER_CLASSES = {
    "mean": "every class weighs the same",
    "sum": "the pixels of all classes are added up before dividing, so large classes decide",
    "truth": "each class weighs as much as it has truth pixels",
    "pairs": "every class of every picture weighs the same",
}


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _all(classes: int) -> tuple[int, ...]:
    return tuple(range(classes))


def _without_background(counts_NK4: Counts) -> Counts:
    """As if pixels whose truth is class 0 had never been counted."""
    kept = counts_NK4.copy()
    kept[..., 1] -= kept[..., 3]
    kept[..., 3] = 0
    kept[:, 0, (0, 2)] = 0
    return kept
