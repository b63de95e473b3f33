"""One recipe, several seeds, the same minutes each: test scores with intervals, against reference figures.

    python benchmarks/seeds.py --data data/pets --recipe resnet34-unet --size 128,128 --budget 20m \
        --against 0.8306 0.8481 0.8527

Runs that are there already (runs/NAME-SEED) are not trained again. Two intervals are printed, because two things
vary: other test pictures (bootstrap over pictures or groups, of the mean over the seeds) and other seeds (Student's t).
The difference to the reference seeds is Welch's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

import maskwright as mw
from maskwright.cli.terminal import terminal
from maskwright.errors import RunError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", default="resnet34-unet")
    parser.add_argument("--size", default="128,128")
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--name", default="pets")
    parser.add_argument("--metric", default="dice_image")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--against", type=float, nargs="*", default=[], help="the reference's figure of each seed"
    )
    asked = parser.parse_args()

    scores = [score(asked, seed) for seed in asked.seeds]
    values = np.array([each[asked.metric].value for each in scores])
    print(f"\n{asked.metric} on test at native size, {scores[0].n_images} pictures, {asked.budget} each")
    for seed, each in zip(asked.seeds, scores, strict=True):
        low, high = each[asked.metric].ci95
        print(f"seed {seed}: {each[asked.metric].value:.4f} ({low:.4f} to {high:.4f} over pictures)")
    if len(values) > 1:
        spread = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        print(f"mean {values.mean():.4f} ({spread[0]:.4f} to {spread[1]:.4f} over seeds, Student's t)")
    if asked.against and len(values) > 1:
        welch = stats.ttest_ind(values, asked.against, equal_var=False).confidence_interval(0.95)
        print(
            f"reference {np.mean(asked.against):.4f}; difference {values.mean() - np.mean(asked.against):+.4f} "
            f"({welch.low:+.4f} to {welch.high:+.4f} over seeds, Welch)"
        )


def score(asked: argparse.Namespace, seed: int) -> mw.Scores:
    """The test scores of the run of this seed, trained first where it is missing."""
    name = f"{asked.name}-{seed}"
    try:
        run = mw.Run.open(Path("runs") / name)
    except RunError:
        overrides = {"input.size": asked.size, "seed": seed}
        run = mw.train(asked.recipe, asked.data, overrides, name, budget=asked.budget, progress=terminal())
    try:
        return run.scores("test")
    except RunError:
        return run.evaluate("test", progress=terminal())


if __name__ == "__main__":
    main()
