"""Other tools' scores from our counts: against the tools themselves, or against a loop where they are not installed."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.conventions import OWN, Convention, Explained, apply, conventions, explain, own_rule
from maskwright.metrics.counts import confusion, tally
from maskwright.metrics.scores import Scores, scores
from maskwright.tensors import IGNORE

patient = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no counterexample."""


@dataclass(frozen=True)
class Case:
    """Some pictures: N H W."""

    truth: np.ndarray
    predicted: np.ndarray
    classes: int

    @property
    def known(self) -> np.ndarray:
        known: np.ndarray = self.truth != IGNORE
        return known

    @property
    def tables(self) -> np.ndarray:
        return np.stack(
            [confusion(*pair, self.classes) for pair in zip(self.truth, self.predicted, strict=True)]
        )

    def scores(self, contract: MetricContract = DEFAULT) -> Scores:
        ids, names = [str(n) for n in range(len(self.truth))], ["background", *"abcde"[: self.classes - 1]]
        return scores(tally(self.tables, contract), ids, names, contract, resamples=2)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Odd sizes, classes that pictures lack, pictures without foreground, ignored pixels and whole ignored pictures."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pictures, classes = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    size = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    truths, predictions = [], []
    for _ in range(pictures):
        there = np.flatnonzero(random.random(classes) < draw(st.sampled_from([0.0, 0.4, 1.0])))
        there = there if len(there) else np.zeros(1, int)
        truth, other = random.choice(there, size), random.integers(0, classes, size)
        share = draw(st.sampled_from([0.0, 0.3, 1.0]))
        predictions.append(np.where(random.random(size) < share, other, truth))
        truth[random.random(size) < draw(st.sampled_from([0.0, 0.0, 0.2, 1.0]))] = IGNORE
        truths.append(truth)
    return Case(np.stack(truths), np.stack(predictions), classes)


def hot(case: Case, masks: np.ndarray) -> torch.Tensor:
    """N K H W; what is ignored has no class at all, in the prediction as well."""
    clean = torch.from_numpy(np.where(case.known, masks, case.classes))
    return torch.nn.functional.one_hot(clean, case.classes + 1)[..., :-1].movedim(-1, 1)


def smp_says(score: str, case: Case) -> float:
    from segmentation_models_pytorch.metrics import f1_score, get_stats, iou_score

    function, *mode, reduction = score.split(", ")
    predicted, truth = torch.from_numpy(case.predicted), torch.from_numpy(case.truth)
    if mode == ["binary"]:  # it cannot ignore; negative in both masks counts nowhere
        masks = [torch.from_numpy(np.where(case.known, m, 0))[:, None] for m in (case.predicted, case.truth)]
        stats = get_stats(*masks, mode="binary")
    else:
        stats = get_stats(predicted, truth, mode="multiclass", ignore_index=IGNORE, num_classes=case.classes)
    return float({"f1_score": f1_score, "iou_score": iou_score}[function](*stats, reduction=reduction))


def torchmetrics_says(score: str, case: Case) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.classification import MulticlassJaccardIndex
        from torchmetrics.segmentation import DiceScore, MeanIoU

        classes = case.classes
        segmentation = {
            "segmentation.MeanIoU": lambda: MeanIoU(classes),
            "segmentation.MeanIoU(include_background=False)": lambda: MeanIoU(
                classes, include_background=False
            ),
            "segmentation.DiceScore": lambda: DiceScore(classes),
            "segmentation.DiceScore(include_background=False)": lambda: DiceScore(
                classes, include_background=False
            ),
            "segmentation.DiceScore(average='micro'), the default before 1.9": lambda: DiceScore(
                classes, average="micro"
            ),
        }
        if score in segmentation:
            metric = segmentation[score]()
            metric.update(hot(case, case.predicted), hot(case, case.truth))
        else:
            average = score.split(", ")[1]
            metric = MulticlassJaccardIndex(classes, average=average, ignore_index=IGNORE)
            metric.update(torch.from_numpy(case.predicted), torch.from_numpy(case.truth))
        return float(metric.compute())


def monai_says(score: str, case: Case) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import monai.metrics

        found = re.fullmatch(r"(\w+)\(include_background=(\w+), ignore_empty=(\w+)\)", score)
        assert found is not None
        metric = getattr(monai.metrics, found[1])(
            include_background=found[2] == "True", ignore_empty=found[3] == "True", ignore_index=IGNORE
        )
        predicted = torch.nn.functional.one_hot(torch.from_numpy(case.predicted), case.classes)
        metric(y_pred=predicted.movedim(-1, 1), y=hot(case, case.truth))
        return float(metric.aggregate())


def scikit_learn_says(score: str, case: Case) -> float:
    from sklearn.metrics import jaccard_score

    truth, predicted = case.truth[case.known], case.predicted[case.known]
    if not len(truth):  # it refuses to score nothing
        return 0.0 if score == "jaccard_score" else math.nan
    average = score.partition(", ")[2] or "binary"
    return float(jaccard_score(truth, predicted, average=average, zero_division=0))


def areas(case: Case, dropped: tuple[int, ...] = ()) -> tuple[list[int], list[int], list[int]]:
    """Pixel by pixel: intersection, prediction and truth of each class, pixels of a dropped label left out of both."""
    both, said, true = ([0] * case.classes for _ in range(3))
    for t, p in zip(case.truth.ravel().tolist(), case.predicted.ravel().tolist(), strict=True):
        if t == IGNORE or t in dropped:
            continue
        both[t] += t == p
        said[p] += 1
        true[t] += 1
    return both, said, true


def mean_of_known(ratios: list[float | None]) -> float:
    known = [ratio for ratio in ratios if ratio is not None]
    return sum(known) / len(known) if known else math.nan


def mean_iou_says(score: str, case: Case) -> float:
    """mmsegmentation's IoUMetric and its copy in `evaluate`, which are not installed: a loop after their documentation.

    "Pixels with the ignored label" leave prediction and truth; class ratios are intersection over union of summed
    areas; `nanmean` leaves out classes whose union is 0. With reduce_zero_label "label 0 is ignored" and the others
    move down by one, in a prediction of a network without background as well.
    """
    reduced = "reduce" in score
    both, said, true = areas(case, dropped=(0,) if reduced or score.endswith("(ignore_index=0)") else ())
    first = 1 if reduced else 0
    if score == "mDice":
        pairs = [(2 * b, s + t) for b, s, t in zip(both, said, true, strict=True)]
    else:
        pairs = [(b, s + t - b) for b, s, t in zip(both, said, true, strict=True)]
    return mean_of_known([part / whole if whole else None for part, whole in pairs[first:]])


def keras_says(score: str, case: Case) -> float:
    """Keras' MeanIoU, which is not installed: the mean over classes whose denominator is not 0.

    Competitions hand it `y_pred[y_true != 0]` and `y_true[y_true != 0]`, with num_classes as before.
    """
    both, said, true = areas(case, dropped=() if score == "MeanIoU" else (0,))
    unions = [s + t - b for b, s, t in zip(both, said, true, strict=True)]
    return mean_of_known([b / union if union else None for b, union in zip(both, unions, strict=True)])


ORACLES: dict[str, Callable[[str, Case], float]] = {
    "smp": smp_says,
    "torchmetrics": torchmetrics_says,
    "MONAI": monai_says,
    "scikit-learn": scikit_learn_says,
    "mmsegmentation": mean_iou_says,
    "HF evaluate": mean_iou_says,
    "Keras": keras_says,
}

TOOLS = [
    pytest.param(tool, marks=[pytest.mark.slow, pytest.mark.ci] if tool == "MONAI" else [])
    for tool in ORACLES  # importing MONAI takes seconds
]


def of(tool: str, classes: int) -> list[Convention]:
    return [entry for entry in conventions(classes) if entry.tool == tool]


@pytest.mark.parametrize("tool", TOOLS)
@settings(patient, max_examples=30)  # each holds up to five pictures and all scores of the tool
@given(case=cases())
def test_every_score_is_what_the_tool_itself_says(tool: str, case: Case) -> None:
    counts = tally(case.tables)
    for entry in of(tool, case.classes):
        said = ORACLES[tool](entry.score, case)
        assert apply(entry.rule, counts) == pytest.approx(said, abs=1e-6, nan_ok=True), entry.score


def test_every_convention_has_its_oracle() -> None:
    for classes in (2, 5):
        assert {entry.tool for entry in conventions(classes)} == set(ORACLES)
        calls = [(entry.tool, entry.score) for entry in conventions(classes)]
        assert len(calls) == len(set(calls))
    scores_of_smp = {entry.score for entry in of("smp", 2)}
    assert scores_of_smp - {entry.score for entry in of("smp", 3)} == {
        f"{name}, binary, {how}" for name in ("iou_score", "f1_score") for how in ("micro", "micro-imagewise")
    }


@patient
@given(case=cases(), data=st.data())
def test_our_own_metrics_are_rules_as_well(case: Case, data: st.DataObject) -> None:
    ids = st.sets(st.integers(0, case.classes - 1))
    policy = st.sampled_from(["skip", "zero", "one"])
    contract = MetricContract.model_validate(
        {
            "absent": data.draw(policy),
            "empty": data.draw(policy),
            "foreground": tuple(data.draw(ids)) or None,
            "drop_truth": tuple(data.draw(ids)),
        }
    )
    result = case.scores(contract)
    for metric in OWN:
        said = apply(own_rule(metric, contract, case.classes), result.counts_NK4)
        assert said == pytest.approx(result[metric].value, abs=1e-12, nan_ok=True), metric


@patient
@given(case=cases(), data=st.data())
def test_the_steps_of_an_explanation_add_up_to_the_difference(case: Case, data: st.DataObject) -> None:
    policy = st.sampled_from(["skip", "zero", "one"])
    contract = MetricContract.model_validate({"absent": data.draw(policy), "empty": data.draw(policy)})
    for row in explain(case.scores(contract)):
        undefined = math.isnan(row.here) != math.isnan(row.there)
        alike = row.because == "the same rule" or row.because.startswith("no difference")
        assert alike or row.because
        if alike:
            assert not undefined
            assert row.here == pytest.approx(row.there, abs=1e-8, nan_ok=True)
        steps = [float(step) for step in re.findall(r"\(([+-][\d.]+)\)", row.because)]
        if steps and "nan" not in row.because:
            assert sum(steps) == pytest.approx(row.difference, abs=6e-5 * len(steps))


DROPPED = "pixels whose truth is the background are dropped from the prediction as well"
FIFTH_CLASS = "class 0 joins the mean with IoU 0 once a single foreground pixel is predicted as 0"


def explained(tool: str, score: str, truth: list[list[int]], predicted: list[list[int]], k: int) -> Explained:
    case = Case(np.array(truth)[:, None], np.array(predicted)[:, None], k)
    (row,) = [row for row in explain(case.scores()) if (row.tool, row.score) == (tool, score)]
    return row


@pytest.mark.parametrize(
    ("tool", "score", "truth", "predicted", "classes", "here", "there", "because"),
    [
        (  # classes 0 and 1 are 1/2 and 1/3; class 2 is nowhere
            "smp",
            "iou_score, macro",
            [[0, 0, 1, 1]],
            [[0, 0, 0, 1]],
            3,
            (2 / 3 + 1 / 2) / 2,
            (2 / 3 + 1 / 2 + 1) / 3,
            "a class in neither mask scores 1",
        ),
        (
            "torchmetrics",
            "segmentation.DiceScore",
            [[0, 0, 1, 1]],
            [[0, 0, 0, 1]],
            2,
            2 / 3,
            (4 / 5 + 2 / 3) / 2,
            "the background counts as a class",
        ),
        (  # class 1 in the first picture alone; MONAI never sees the false alarm in the second
            "MONAI",
            "DiceMetric(include_background=False, ignore_empty=True)",
            [[0, 1], [0, 0]],
            [[0, 1], [0, 1]],
            2,
            (1 + 0) / 2,
            1.0,
            "a class that a picture's truth lacks is left out, even where it is predicted",
        ),
        (
            "HF evaluate",
            "mean_iou(ignore_index=0)",
            [[0, 0, 1, 1, 1, 1]],
            [[1, 1, 1, 1, 1, 0]],
            2,
            3 / 6,
            (3 / 4 + 0) / 2,
            f"{DROPPED} (+0.2500) and {FIFTH_CLASS} (-0.3750)",
        ),
        (
            "Keras",
            "MeanIoU of pixels whose truth is not 0",
            [[0, 1, 2, 3, 4, 1, 2, 3, 4]],
            [[1, 1, 2, 3, 4, 1, 2, 3, 0]],
            5,
            (1 + 1 + 1 + 1 / 2) / 4,
            (1 + 1 + 1 + 1 / 2) / 5,
            FIFTH_CLASS,
        ),
        (
            "smp",
            "f1_score, binary, micro-imagewise",
            [[0, 1], [0, 0]],
            [[0, 1], [0, 0]],
            2,
            1.0,
            1.0,
            "no difference here, although a picture with none of the classes scores 1",
        ),
        ("Keras", "MeanIoU", [[0, 1]], [[1, 1]], 2, 1 / 4, 1 / 4, "the same rule"),
        (
            "MONAI",
            "DiceMetric(include_background=False, ignore_empty=True)",
            [[0, 0]],
            [[0, 0]],
            2,
            math.nan,
            0.0,
            "it is 0 where there is nothing to score",
        ),
    ],
)
def test_explanations_by_hand(
    tool: str,
    score: str,
    truth: list[list[int]],
    predicted: list[list[int]],
    classes: int,
    here: float,
    there: float,
    because: str,
) -> None:
    row = explained(tool, score, truth, predicted, classes)
    assert row.here == pytest.approx(here, nan_ok=True)
    assert row.there == pytest.approx(there)
    assert row.because == because


def test_the_reasons_speak_of_the_contract_in_use() -> None:
    """Under a contract of smp's own rules nothing is left to explain."""
    case = Case(np.array([[[0, 1, 1]], [[0, 0, 0]]]), np.array([[[0, 1, 0]], [[0, 0, 0]]]), 2)
    alike = MetricContract(absent="one", empty="one", foreground=(0, 1))
    rows = {(row.tool, row.score): row for row in explain(case.scores(alike))}
    assert rows["smp", "f1_score, macro-imagewise"].because == "the same rule"
    zero = {(row.tool, row.score): row for row in explain(case.scores(MetricContract(empty="zero")))}
    assert "scores 1" in zero["smp", "f1_score, binary, micro-imagewise"].because


def test_class_0_is_called_by_its_name() -> None:
    tables = np.array([[[9, 1], [2, 5]]])
    rows = explain(scores(tally(tables), ["a"], ["sky", "road"], resamples=2))
    reasons = {row.because for row in rows if (row.tool, row.score) == ("mmsegmentation", "mDice")}
    assert reasons == {"sky (class 0) counts as a class"}


# Where a peer contradicts its own documentation. Each test fails when the peer is mended: then drop it here.


def test_torchmetrics_mean_iou_contradicts_its_documentation() -> None:
    # "per_class: Whether to compute the IoU for each class separately. If set to ``False``, the metric will compute the
    # mean IoU over all classes."
    from torchmetrics.segmentation import MeanIoU

    truth, predicted = torch.tensor([[[0, 1]], [[0, 0]]]), torch.tensor([[[0, 0]], [[0, 0]]])
    of_classes, of_all = (
        MeanIoU(2, per_class=each, input_format="index")(predicted, truth) for each in (True, False)
    )
    assert of_classes.tolist() == [0.75, 0]
    assert of_all.item() == pytest.approx((0.5 + 0 + 1) / 3)  # and not (0.75 + 0) / 2


def test_torchmetrics_mean_iou_of_an_absent_class_contradicts_its_documentation() -> None:
    # "-1 is returned if class is completely absent both from prediction and the ground truth labels"
    from torchmetrics.functional.segmentation import mean_iou
    from torchmetrics.segmentation import MeanIoU

    nothing = torch.zeros(1, 2, 2, dtype=torch.int64)
    options = {"include_background": False, "input_format": "index"}
    assert mean_iou(nothing, nothing, num_classes=2, **options).isnan().all()
    assert MeanIoU(2, **options)(nothing, nothing).isnan()


def test_torchmetrics_dice_score_contradicts_its_documentation() -> None:
    # "The Dice Score is defined as: DS = 2 sum_i t_i p_i / (sum_i t_i + sum_i p_i), where N is the number of classes"
    from torchmetrics.segmentation import DiceScore

    truth, predicted = torch.tensor([[[0, 0, 0, 1]]]), torch.tensor([[[0, 0, 0, 0]]])
    defined = 2 * (3 + 0) / (4 + 4)
    assert DiceScore(2, input_format="index")(predicted, truth).item() == pytest.approx((6 / 7 + 0) / 2)
    with pytest.warns(
        UserWarning, match="currently defaults to `average=micro`"
    ):  # it does not: see the line above
        micro = DiceScore(2, average="micro", input_format="index")
    assert micro(predicted, truth).item() == pytest.approx(defined)


def test_smp_micro_contradicts_its_documentation() -> None:
    # "zero_division: Sets the value to return when there is a zero division, i.e. when all predictions and labels are
    # negative. [...] Defaults to 1." and "For 'binary' case 'micro' = 'macro' = 'weighted'"
    from segmentation_models_pytorch.metrics import f1_score, get_stats, iou_score

    nothing = torch.zeros(2, 1, 3, 3, dtype=torch.int64)
    stats = get_stats(nothing, nothing, mode="binary")
    for function in (iou_score, f1_score):
        assert function(*stats, reduction="macro") == 1
        assert function(*stats, reduction="micro").isnan()


def test_smp_weighted_imagewise_contradicts_its_documentation() -> None:
    # "Compute score for each image and for each class on that image separately, then compute weighted average score on
    # each image over labels and average image scores over dataset."
    from segmentation_models_pytorch.metrics import get_stats, iou_score

    masks = torch.tensor([[[0, 1, 2]]])
    stats = get_stats(masks, masks, mode="multiclass", num_classes=3)
    perfect = iou_score(*stats, reduction="weighted-imagewise", class_weights=[1.0, 1.0, 1.0])
    assert perfect.item() == pytest.approx(1 / 3)  # and not 1
    assert iou_score(*stats, reduction="weighted", class_weights=[1.0, 1.0, 1.0]).item() == pytest.approx(1)


@pytest.mark.slow  # importing MONAI takes seconds
@pytest.mark.ci
def test_monai_mean_iou_contradicts_its_documentation() -> None:
    # "ignore_index: single integer class index (or sentinel value) to ignore from the metric computation. Voxels with
    # this label are excluded from the score"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.metrics import DiceMetric, MeanIoU

    truth, predicted = torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[1, 1, 1, 1]]])
    masks = [torch.nn.functional.one_hot(mask, 2).movedim(-1, 1) for mask in (predicted, truth)]
    assert DiceMetric(include_background=False, ignore_index=0)(*masks).item() == 1  # as documented
    assert MeanIoU(include_background=False, ignore_index=0)(*masks).item() == pytest.approx(2 / 4)
