"""How often the gate's interval of the change of Dice covers the truth: changes of real exports, drawn again and again.

    python benchmarks/changes.py runs/pets runs/streets --out docs/intervals.md

Each run is exported without a gate, and the Dice of every picture that is no test picture taken from PyTorch and from
the file. Those changes are the population, their mean is the truth. Samples of each size are drawn from it, and the
table says how many of 100 intervals hold the truth, and how wide they are in the median.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from scipy import stats

from coverage import Cell
from maskwright.export.export import export
from maskwright.export.gate import outward, spread
from maskwright.metrics.contract import DEFAULT
from maskwright.metrics.counts import confusion, tally
from maskwright.metrics.measures import Tallies, Values, image_values
from maskwright.predict.exported import Exported
from maskwright.predict.passport import Precision, Tolerance
from maskwright.predict.predictor import Predictor, use_threads
from maskwright.runfolder import RunFolder

SIZES = (10, 20, 30, 50, 60, 100, 150)
START, END = "<!-- changes -->", "<!-- /changes -->"
ANY = Tolerance(flipped=1, dice=1, probability=1)


def changes(run: RunFolder, precision: Precision, pictures: int, threads: int) -> Values:
    """Dice of the exported file less that of PyTorch, a picture each."""
    dataset = run.read_dataset()
    items = [item for item in dataset.items if item.split != "test" and item.mask is not None]
    classes, contract = len(dataset.classes), DEFAULT.resolved(len(dataset.classes))
    counts: tuple[list[np.ndarray], list[np.ndarray]] = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(run.path, file, precision=precision, pictures=1, tolerance=ANY, threads=threads, tta="none")
        sides = Predictor.load(run.model, "cpu", "none"), Exported.load(file, threads=threads)
        for item in spread(items, pictures):
            picture, truth = dataset.image(item, sides[0].channels), dataset.mask(item)
            for side, counted in zip(sides, counts, strict=True):
                pixels_KK = confusion(truth, side(picture).mask, classes, contract.ignore)
                counted.append(tally(pixels_KK, contract))
    before, after = (image_values(Tallies(np.stack(counted)), contract)["dice_image"] for counted in counts)
    moved: Values = (after - before)[~np.isnan(after - before)]
    return moved


def cover(changes_N: Values, number: int, draws: int) -> tuple[Cell, Cell]:
    """Of Student's interval, and of it with its ends moved outward, as the gate gives it."""
    truth = changes_N.mean()
    sample = np.random.default_rng(number).choice(changes_N, (draws, number))
    error = sample.std(1, ddof=1) / np.sqrt(number)
    half, middle = stats.t.ppf(0.975, number - 1) * error, sample.mean(1)
    low, high = middle - half, middle + half
    moved = np.array([outward(ends) for ends in zip(low.tolist(), high.tolist(), strict=True)]).T
    return _cell(low, high, truth), _cell(moved[0], moved[1], truth)


def _cell(low: Values, high: Values, truth: float) -> Cell:
    held: Bool[np.ndarray, " draws"] = (low <= truth) & (truth <= high)
    return Cell(len(held), int(held.sum()), float(np.median(high - low)))


def table(name: str, precision: str, changes_N: Values, sizes: Sequence[int], draws: int) -> str:
    spread_out = f"mean {changes_N.mean():+.1g}, standard deviation {changes_N.std():.1g}"
    far = f"largest {np.abs(changes_N).max():.1g}, excess kurtosis {stats.kurtosis(changes_N):.0f}"
    lines = [
        f"### {name}, {precision}",
        "",
        f"{len(changes_N)} pictures: {spread_out}, {far}.",
        "",
        "| pictures | Student's t | ends moved outward |",
        "| --: | --: | --: |",
    ]
    for number in sizes:
        cells = cover(changes_N, number, draws)
        lines.append(
            f"| {number} | {' | '.join(f'{100 * cell.share:.1f} ({cell.width:.2g})' for cell in cells)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--precisions", nargs="+", default=["int8", "fp32"])
    parser.add_argument("--pictures", type=int, default=600, help="at most")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help=f"a page whose part from {START} to {END} is replaced")
    asked = parser.parse_args()
    made = []
    for folder in asked.runs:
        for precision in asked.precisions:
            began = time.monotonic()
            with use_threads(asked.threads):
                found = changes(RunFolder(folder), precision, asked.pictures, asked.threads)
            made.append(table(folder.name, precision, found, asked.sizes, asked.draws))
            print(made[-1], f"{time.monotonic() - began:.0f} s\n", sep="\n", flush=True)
            if asked.out is not None:
                head, _, rest = asked.out.read_text(encoding="utf-8").partition(START)
                _, _, tail = rest.partition(END)
                content = "\n".join(made)
                asked.out.write_text(f"{head}{START}\n\n{content}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
