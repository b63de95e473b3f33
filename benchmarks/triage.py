"""What `data triage` finds of label errors that were planted: precision at k, by kind, beside simpler rankings.

    python benchmarks/triage.py ../shared/data/pets --recipe resnet34-unet --epochs 60 --size 64,64 --seeds 1 2

In a tenth of the pictures of train and validation the label is spoilt in one of five ways, in turn: an object is
missing, an object is there that is not, all is shifted, an object has another class (of two classes, both are
swapped), an object is eroded. Models of a cross-validation then judge the labels that they have not seen, spoilt ones
among what they were trained on. Precision at k is the share of spoilt labels among the first k. Here k is the number
of spoilt labels, so it is their recall as well; drawing lots would give 0.1. Test pictures are left out.

Rankings: triage; softmin, the soft minimum of p(label) over the pixels with temperature 0.1 (Lad & Mueller 2023,
"Estimating label quality and errors in semantic segmentation data via any model"); dice, 1 - Dice of label and
prediction over the classes of either.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

import maskwright as mw
from maskwright.data.convert import convert
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.data.image_io import save_mask
from maskwright.tensors import IGNORE, Mask
from maskwright.triage.disputes import disputes
from maskwright.triage.judges import panel

KINDS = ("missing", "extra", "shifted", "swapped", "eroded")
OBJECT = (0.005, 0.6)
"""Shares of the picture between which a connected part of a class counts as an object."""
EXTRA = (0.02, 0.1)
"""Share of the picture that an invented object covers."""
SHIFT = (0.05, 0.12)
"""Of height and width."""
ERODED = 0.7
"""Of its area is left, at most."""


def objects(mask_HW: Mask, classes: int) -> list[tuple[int, Bool[np.ndarray, "H W"]]]:
    """(class, where) of every connected part of a foreground class that is neither tiny nor everything."""
    found = []
    for k in range(1, classes):
        labels, count = ndimage.label(mask_HW == k)
        for number in range(1, count + 1):
            part = labels == number
            if OBJECT[0] <= part.mean() <= OBJECT[1]:
                found.append((k, part))
    return found


def surroundings(mask_HW: Mask, part: Bool[np.ndarray, "H W"]) -> Mask:
    """The mask as if `part` were not there: each of its pixels takes the class of the nearest one outside."""
    near: tuple[np.ndarray, ...] = ndimage.distance_transform_edt(
        part | (mask_HW == IGNORE), return_distances=False, return_indices=True
    )
    filled: Mask = np.where(part, mask_HW[tuple(near)], mask_HW)
    return filled


def missing(mask: Mask, donor: Mask, classes: int, random: np.random.Generator) -> Mask | None:
    """An object is painted over with what is around it."""
    if not (there := objects(mask, classes)):
        return None
    return surroundings(mask, there[int(random.integers(len(there)))][1])


def extra(mask: Mask, donor: Mask, classes: int, random: np.random.Generator) -> Mask | None:
    """The outline of another picture's object, where the class is a different one."""
    if not (there := objects(donor, classes)):
        return None
    k, part = there[int(random.integers(len(there)))]
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    part = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = np.sqrt(random.uniform(*EXTRA) * mask.size / part.sum())
    height, width = (max(round(side * scale), 1) for side in part.shape)
    part = part[np.arange(height) * part.shape[0] // height][:, np.arange(width) * part.shape[1] // width]
    if height >= mask.shape[0] or width >= mask.shape[1]:
        return None
    for _ in range(100):
        top, left = (int(random.integers(a - b + 1)) for a, b in zip(mask.shape, part.shape, strict=True))
        below = mask[top : top + height, left : left + width]
        if (below[part] != k).mean() > 0.9:
            spoilt = mask.copy()
            spoilt[top : top + height, left : left + width][part] = k
            return spoilt
    return None


def shifted(mask: Mask, donor: Mask, classes: int, random: np.random.Generator) -> Mask | None:
    """All of it, by the same way; edges are repeated."""
    by = [round(float(random.uniform(*SHIFT)) * side) * int(random.choice([-1, 1])) for side in mask.shape]
    rows, columns = (
        np.clip(np.arange(side) - way, 0, side - 1) for side, way in zip(mask.shape, by, strict=True)
    )
    moved: Mask = mask[rows[:, None], columns]
    return moved


def swapped(mask: Mask, donor: Mask, classes: int, random: np.random.Generator) -> Mask | None:
    """An object gets another foreground class; of two classes, each becomes the other."""
    if classes == 2:
        return np.where(mask == IGNORE, mask, 1 - mask).astype(np.uint8)
    if not (there := objects(mask, classes)):
        return None
    k, part = there[int(random.integers(len(there)))]
    other = int(random.choice([name for name in range(1, classes) if name != k]))
    return np.where(part, np.uint8(other), mask)


def eroded(mask: Mask, donor: Mask, classes: int, random: np.random.Generator) -> Mask | None:
    """An object loses its rim."""
    if not (there := objects(mask, classes)):
        return None
    _, part = there[int(random.integers(len(there)))]
    depth = ndimage.distance_transform_edt(part)
    return surroundings(mask, part & (depth <= np.quantile(depth[part], 1 - ERODED)))


SPOIL: Mapping[str, Callable[[Mask, Mask, int, np.random.Generator], Mask | None]] = {
    "missing": missing,
    "extra": extra,
    "shifted": shifted,
    "swapped": swapped,
    "eroded": eroded,
}


def plant(dataset: Dataset, out: Path, seed: int, share: float = 0.1) -> dict[str, str]:
    """A copy of the data set in `out` with spoilt labels in `share` of train and validation; id -> kind."""
    convert(dataset, "folder", out)
    copy = open_dataset(out)
    random = np.random.default_rng(seed)
    items = [item for item in copy.items if item.split in ("train", "validation")]
    wanted = round(share * len(items))
    planted: dict[str, str] = {}
    for place in random.permutation(len(items)).tolist():
        item, kind = items[place], KINDS[len(planted) % len(KINDS)]
        donor = copy.mask(items[int(random.integers(len(items)))])
        mask = copy.mask(item)
        spoilt = SPOIL[kind](mask, donor, len(copy.classes), random)
        if spoilt is None or (spoilt != mask).mean() < 0.002:
            continue
        assert isinstance(item.mask, Path)
        save_mask(item.mask, spoilt, copy.classes)
        planted[item.id] = kind
        if len(planted) == wanted:
            break
    return planted


def rankings(path: Path, device: str) -> dict[str, dict[str, float]]:
    """Ranking -> id -> how suspicious the label is, by a cross-validation's models."""
    judges = panel(path, device=device)
    found: dict[str, dict[str, float]] = {"triage": {}, "softmin": {}, "dice": {}}
    for judge in judges.judges:
        predictor = judge.load()
        for item in judge.items:
            label = judges.dataset.mask(item)
            said = predictor(judges.dataset.image(item, predictor.channels))
            regions = disputes(label, said.calibrated)
            found["triage"][item.id] = regions[0].score if regions else 0.0
            found["softmin"][item.id] = 1 - softmin(label, said.calibrated)
            found["dice"][item.id] = 1 - mean_dice(label, said.mask)
    return found


def softmin(label_HW: Mask, probabilities_KHW: np.ndarray, temperature: float = 0.1) -> float:
    """sum of q softmax((1 - q) / temperature), q being p(label) of each known pixel."""
    known = label_HW != IGNORE
    q = np.take_along_axis(probabilities_KHW, np.where(known, label_HW, 0)[None].astype(np.int64), 0)[0][
        known
    ]
    weight = np.exp((1 - q - (1 - q).max()) / temperature)
    return float((q * weight).sum() / weight.sum())


def mean_dice(label_HW: Mask, said_HW: Mask) -> float:
    """Mean over the classes of either."""
    known = label_HW != IGNORE
    label, said = label_HW[known], said_HW[known]
    classes = np.union1d(label, said)
    return float(
        np.mean(
            [
                2 * ((label == k) & (said == k)).sum() / ((label == k).sum() + (said == k).sum())
                for k in classes
            ]
        )
    )


def measure(scores: Mapping[str, float], planted: Mapping[str, str]) -> dict[str, float]:
    """Precision at k and at k / 2, average precision, and the recall of each kind within the first k."""
    k = len(planted)
    order = sorted(scores, key=lambda name: -scores[name])
    hits = np.array([name in planted for name in order])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    first = set(order[:k])
    return {
        "precision at k": float(precision[k - 1]),
        "precision at k/2": float(precision[k // 2 - 1]),
        "average precision": float(precision[hits].mean()),
        **{
            kind: float(np.mean([name in first for name, is_kind in planted.items() if is_kind == kind]))
            for kind in KINDS
            if kind in planted.values()
        },
    }


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("data")
    words.add_argument("--recipe", default="unet")
    words.add_argument("--epochs", type=int, default=60)
    words.add_argument("--size", default="64,64")
    words.add_argument("--folds", type=int, default=3)
    words.add_argument("--seeds", type=int, nargs="+", default=[0])
    words.add_argument("--pictures", type=int, help="so many, drawn at random; all without it")
    words.add_argument("--share", type=float, default=0.1)
    words.add_argument("--threads", type=int)
    words.add_argument("--device", default="auto")
    words.add_argument("--out", type=Path, help="where the spoilt data and the runs stay; nowhere without it")
    words.add_argument(
        "--set", dest="keys", nargs="*", default=[], help="recipe keys, such as model.width=16"
    )
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = given.out or Path(folder)
        for seed in given.seeds:
            for line in one_seed(given, out, seed):
                print(json.dumps(line), flush=True)


def one_seed(given: argparse.Namespace, out: Path, seed: int) -> Sequence[Mapping[str, object]]:
    whole = open_dataset(given.data)
    nonsense = whole.root / "spoilt.txt"  # of a terrain: labels that are wrong already
    wrong = set(nonsense.read_text(encoding="utf-8").split()) if nonsense.is_file() else set()
    usable = [
        item.id for item in whole.items if item.split in ("train", "validation") and item.id not in wrong
    ]
    chosen = set(np.random.default_rng(seed).permutation(usable)[: given.pictures].tolist())
    dataset = whole.without([item.id for item in whole.items if item.id not in chosen])
    spoilt = out / f"{whole.name}-{seed}"
    planted = plant(dataset, spoilt, seed, given.share)
    keys = {"train.epochs": given.epochs, "input.size": given.size, "input.tta": "none", "seed": seed}
    keys |= dict(key.split("=", 1) for key in given.keys)
    done = mw.cross_validate(
        given.recipe,
        spoilt,
        keys,
        spoilt.name,
        folds=given.folds,
        runs=out / "runs",
        threads=given.threads,
        device=given.device,
    )
    dice = round(done.scores["dice_image"].value, 3)
    return [
        {
            "seed": seed,
            "labels": len(dataset.items),
            "spoilt": len(planted),
            "out-of-fold dice": dice,
            "ranking": name,
        }
        | {key: round(value, 3) for key, value in measure(scores, planted).items()}
        for name, scores in rankings(done.path, given.device).items()
    ]


if __name__ == "__main__":
    main()
