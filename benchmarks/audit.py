"""What `data audit` finds of what was planted: twins among real pictures, spoilt pictures of synthetic:terrain.

    python benchmarks/audit.py ../shared/data/pets --seeds 5

Twins: copies of a quarter of the pictures, cropped by up to 5 % of their height and width, scaled by 0.5 to 2 and
saved as JPEG of quality 30 to 95, all drawn at random. A pair is right when both show the same original; pairs that
the pictures have among themselves are right as well, and are found without anything planted. Spoilt: terrain's list
of nonsense, which the audit does not read, for each seed a terrain of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from maskwright.audit.looks import Look, look_at, look_of
from maskwright.audit.run import audit
from maskwright.audit.twins import Twins, find_twins
from maskwright.data.dataset import open_dataset
from maskwright.data.synthetic import materialise
from maskwright.errors import DataError


def copy_of(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Cropped by up to 5 %, scaled by 0.5 to 2, JPEG of quality 30 to 95."""
    height, width = picture.shape[:2]
    lost_rows, lost_columns = (random.uniform(0, 0.05, 2) * (height, width)).astype(int).tolist()
    top, left = int(random.integers(0, lost_rows + 1)), int(random.integers(0, lost_columns + 1))
    cropped = picture[top : top + height - lost_rows, left : left + width - lost_columns]
    scale = 2 ** random.uniform(-1, 1)
    size = (round(cropped.shape[1] * scale), round(cropped.shape[0] * scale))
    saved = io.BytesIO()
    resized = Image.fromarray(cropped).resize(size, Image.Resampling.BICUBIC)
    resized.save(saved, "JPEG", quality=int(random.integers(30, 96)))
    return np.asarray(Image.open(saved).convert("RGB"))


def twins(data: str, seed: int) -> dict[str, float]:
    """Recall over the planted copies, precision over all pairs found."""
    dataset, random = open_dataset(data), np.random.default_rng(seed)
    looks = [
        look for look in look_at([item.image for item in dataset.items]) if not isinstance(look, DataError)
    ]
    own = {(pair.first, pair.second) for pair in _found(looks)}
    chosen = random.choice(len(looks), len(looks) // 4, replace=False).tolist()
    copies = [look_of(copy_of(dataset.image(dataset.items[row], 3), random)) for row in chosen]
    origin = [*range(len(looks)), *chosen]
    same = {row: min({row, *(a for a, b in own if b == row)}) for row in range(len(looks))}
    found = _found([*looks, *copies])
    planted = {(row, len(looks) + place) for place, row in enumerate(chosen)}
    hits = planted & {(pair.first, pair.second) for pair in found}
    right = sum(same[origin[pair.first]] == same[origin[pair.second]] for pair in found)
    return {
        "planted": len(planted),
        "recall": len(hits) / len(planted),
        "precision": right / len(found),
        "own pairs": len(own),
    }


def _found(looks: list[Look]) -> list[Twins]:
    return find_twins(np.stack([look.small for look in looks]), [look.digest for look in looks])


def spoilt(seed: int) -> dict[str, float]:
    """Recall and precision of `outliers` on a terrain."""
    file = materialise("terrain", seed=seed)
    nonsense = set((file.parent / "spoilt.txt").read_text(encoding="utf-8").split())
    begun = time.monotonic()
    result = audit(file)
    named = {name for each in result.findings if each.id == "outliers" for name in each.ids}
    hits = len(named & nonsense)
    return {
        "spoilt": len(nonsense),
        "recall": hits / len(nonsense),
        "precision": hits / max(len(named), 1),
        "seconds": round(time.monotonic() - begun, 1),
    }


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("data", help="a data set of photographs")
    words.add_argument("--seeds", type=int, default=5)
    words.add_argument("--terrains", type=int, default=2)
    given = words.parse_args()
    begun = time.monotonic()
    result = audit(given.data)
    print(json.dumps({"data": Path(given.data).name, "seconds": round(time.monotonic() - begun, 1)}))
    print(json.dumps({each.id: len(each.cases) for each in result.findings}))
    for seed in range(given.seeds):
        print(json.dumps({"twins, seed": seed} | twins(given.data, seed)), flush=True)
    for seed in range(given.terrains):
        print(json.dumps({"terrain, seed": seed} | spoilt(seed)), flush=True)


if __name__ == "__main__":
    main()
