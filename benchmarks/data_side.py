"""What the data side costs: the share of store, draw, augmentation and normalisation in a whole training step.

Both are measured in one run, turn about and on the same batches, on generated pictures, so that the ratio holds even
where the machine is not calm. The step is the one that `maskwright train` runs; it contains the data side.

    python benchmarks/data_side.py --threads 2
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from maskwright.augment.apply import apply
from maskwright.augment.params import draw
from maskwright.config import Recipe, load_recipe
from maskwright.data.dataset import open_dataset
from maskwright.data.store import prepare
from maskwright.data.synthetic import materialise
from maskwright.progress import SILENT
from maskwright.tensors import Batch, Target
from maskwright.training.begin import assemble, first_state
from maskwright.training.device import make_accelerator
from maskwright.training.step import Machinery, TrainState, train_step

Result = TypeVar("Result")

CASES: dict[str, tuple[str, str, dict[str, object]]] = {
    "resnet34-unet, 128 px RGB": ("shapes", "resnet34-unet", {"input.size": (128, 128)}),
    "the same, all augmentation": (
        "shapes",
        "resnet34-unet",
        {
            "input.size": (128, 128),
            "augment.elastic": 0.03,
            "augment.crop": 0.8,
            "augment.hue": 0.05,
            "augment.gamma": 0.2,
            "augment.blur": 1.0,
            "augment.noise": 0.02,
            "augment.mixup": 0.2,
            "augment.cutmix": 1.0,
        },
    ),
    "terrain, 64 x 128 grey": ("terrain", "terrain", {}),
    "terrain, width 8": ("terrain", "terrain", {"model.width": 8}),
    "width 8, rotated and scaled": (
        "terrain",
        "terrain",
        {"model.width": 8, "augment.rotate": 15, "augment.scale": 0.2},
    ),
}
"""Title -> (synthetic data set, recipe, changes of it)."""

PARTS = ("read", "draw", "apply", "normalise")


def begin(data: str, recipe: Recipe, pictures: int) -> tuple[TrainState, Machinery]:
    dataset = open_dataset(materialise(data, train=pictures, validation=8, test=8))
    store = prepare(dataset, recipe.input)
    machinery, spec = assemble(recipe, dataset, store, make_accelerator("cpu", recipe.train.precision))
    state = first_state(machinery, spec, None, SILENT)
    state.counters.total_steps = 10**6
    return state, machinery


def data_side(machinery: Machinery, rows: np.ndarray, epoch: int) -> dict[str, float]:
    """Seconds of each part of what stands before the network."""
    seconds = dict.fromkeys(PARTS, 0.0)

    def timed(part: str, work: Callable[[], Result]) -> Result:
        begun = time.perf_counter()
        result = work()
        seconds[part] += time.perf_counter() - begun
        return result

    recipe, store = machinery.recipe, machinery.store

    def read() -> Batch:
        images, labels = torch.from_numpy(store.images(rows)), torch.from_numpy(store.labels(rows))
        return Batch(images.float().div_(255), Target(labels))

    params = timed("draw", lambda: draw(rows, epoch, recipe.augment, seed=recipe.seed))
    batch = timed("read", read)
    batch = timed("apply", lambda: apply(batch, params, fill=machinery.preprocess.fill))
    timed(
        "normalise",
        lambda: machinery.preprocess.normalise(batch.images).contiguous(memory_format=torch.channels_last),
    )
    return seconds


def measure(title: str, options: argparse.Namespace) -> None:
    """One line of the table: medians within a repeat; median and range over the repeats."""
    data, name, changes = CASES[title]
    recipe = load_recipe(name, changes | {"train.precision": options.precision})
    batch = int(recipe.train.batch)
    state, machinery = begin(data, recipe, 8 * batch)
    state.counters.micro_batch = batch
    rows = machinery.store.rows("train")
    shares, steps, parts = [], [], {part: list[float]() for part in PARTS}
    for repeat in range(options.repeats + 1):
        step_seconds, data_seconds = [], []
        for index in range(options.steps):
            some = rows[(index * batch + np.arange(batch)) % len(rows)]
            data_seconds.append(data_side(machinery, some, epoch=repeat))
            begun = time.perf_counter()
            train_step(state, machinery, some, np.zeros_like(some))
            step_seconds.append(time.perf_counter() - begun)
        if repeat == 0:  # warm-up
            continue
        for part in PARTS:
            parts[part].append(statistics.median(seconds[part] for seconds in data_seconds))
        steps.append(statistics.median(step_seconds))
        shares.append(statistics.median(sum(seconds.values()) for seconds in data_seconds) / steps[-1])
    columns = " ".join(f"{1e3 * statistics.median(parts[part]):>9.2f}" for part in PARTS)
    step = statistics.median(steps)
    spread = f"{statistics.median(shares):6.1%} ({min(shares):.1%} to {max(shares):.1%})"
    precision = "bf16" if machinery.accelerator.mixed_precision == "bf16" else "fp32"
    print(f"{title:<28} {precision} {columns} {1e3 * step:>9.1f} {batch / step:>9.0f}   {spread}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--repeats", type=int, default=5, help="after one that warms up")
    parser.add_argument("--steps", type=int, default=8, help="in a repeat")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{options.threads} threads, {options.repeats} repeats of {options.steps} steps, milliseconds a batch"
    )
    print(f"{'':<33} " + " ".join(f"{part:>9}" for part in (*PARTS, "step", "images/s")) + "   data side")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["MASKWRIGHT_CACHE"] = cache
        for title in CASES:
            measure(title, options)


if __name__ == "__main__":
    main()
