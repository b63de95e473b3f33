"""One recipe, several seeds, the same minutes each: test scores with intervals, against reference figures.

    python benchmarks/seeds.py --data data/pets --recipe resnet34-unet --size 128,128 --budget 20m \
        --against 0.8306 0.8481 0.8527

Runs that are there already (runs/NAME-SEED) are not trained again, and those that were stopped are gone on with.
Two intervals are printed, because two things vary: other test pictures (bootstrap over pictures or groups) and other
seeds (Student's t). The difference to the reference seeds is Welch's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from maskwright.cli.terminal import terminal
from maskwright.compare import over_pictures
from measured import measured, over_seeds, welch


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

    runs = [
        measured(
            asked.recipe,
            asked.data,
            Path("runs") / f"{asked.name}-{seed}",
            overrides={"input.size": asked.size, "seed": seed},
            budget=asked.budget,
            progress=terminal(),
        )
        for seed in asked.seeds
    ]
    scores = [run.scores("test") for run in runs]
    values = [each[asked.metric].value for each in scores]
    print(f"\n{asked.metric} on test at native size, {scores[0].n_images} pictures, {asked.budget} each")
    for seed, each in zip(asked.seeds, scores, strict=True):
        low, high = each[asked.metric].ci95
        print(f"seed {seed}: {each[asked.metric].value:.4f} ({low:.4f} to {high:.4f} over pictures)")
    if len(values) > 1:
        pictures, seeds = over_pictures(scores, asked.metric), over_seeds(values)
        print(
            f"mean {np.mean(values):.4f} ({pictures[0]:.4f} to {pictures[1]:.4f} over pictures; "
            f"{seeds[0]:.4f} to {seeds[1]:.4f} over seeds, Student's t)"
        )
    if asked.against and len(values) > 1:
        low, high = welch(values, asked.against)
        print(
            f"reference {np.mean(asked.against):.4f}; difference {np.mean(values) - np.mean(asked.against):+.4f} "
            f"({low:+.4f} to {high:+.4f} over seeds, Welch)"
        )


if __name__ == "__main__":
    main()
