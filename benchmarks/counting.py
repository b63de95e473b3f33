"""What scores cost: counting beside torchmetrics, and the share of `evaluate` that is not the network.

    python benchmarks/counting.py --threads 2                                  counting, on the same tensors turn about
    python benchmarks/counting.py --threads 2 --run runs/pets --size 256,256   evaluate, on a copy of a run folder

Counting is `summary` of `confusions`: every metric of counts, without intervals, which torchmetrics does not have
either; the last column adds them. torchmetrics' MeanIoU and DiceScore want int64 masks, so both get them; those of a
data set are uint8, and a column says what they take.

Evaluating is timed where it passes from part to part: reading files, the network, the rest of a prediction (resizing,
probabilities), the gallery, the intervals; what is left is counting and everything else in between. --profile says
more.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import maskwright as mw
from maskwright.metrics.counts import confusions, tally
from maskwright.metrics.scores import scores, summary
from maskwright.predict.hub import CONFIG

SHAPE = (16, 256, 256)


def masks(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Truth, and a prediction that is right four times out of five: int64."""
    random = torch.Generator().manual_seed(0)
    truth = torch.randint(0, classes, SHAPE, generator=random)
    other = torch.randint(0, classes, SHAPE, generator=random)
    return truth, torch.where(torch.rand(SHAPE, generator=random) < 0.8, truth, other)


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
"""The processor's is all threads' time together: with one thread it is the wall's on a calm machine."""


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    begun = clock()
    work()
    return clock() - begun


def measure_counting(classes: int, repeats: int, clock: Callable[[], float]) -> str:
    """A line: median milliseconds of each way, median and range of the ratio over the repeats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.segmentation import DiceScore, MeanIoU
    truth, predicted = masks(classes)
    small = truth.to(torch.uint8), predicted.to(torch.uint8)
    ids, names = [str(image) for image in range(SHAPE[0])], [f"class{k}" for k in range(classes)]

    def theirs() -> None:
        for metric in (MeanIoU(classes, input_format="index"), DiceScore(classes, input_format="index")):
            metric.update(predicted, truth)
            metric.compute()

    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: summary(confusions(truth, predicted, classes)),
        "theirs": theirs,
        "uint8": lambda: summary(confusions(*small, classes)),
        "with intervals": lambda: scores(tally(confusions(truth, predicted, classes)), ids, names),
    }
    taken = {name: list[float]() for name in ways}
    for repeat in range(repeats + 2):
        for name, work in ways.items():
            often = (
                1 if name == "theirs" else 15
            )  # as long together, so that what disturbs one disturbs the other
            spent = statistics.median(seconds(work, clock) for _ in range(often))
            if repeat >= 2:  # the first two warm up
                taken[name].append(spent)
    ratios = [theirs / ours for theirs, ours in zip(taken["theirs"], taken["ours"], strict=True)]
    columns = " ".join(f"{1e3 * statistics.median(spent):>15.2f}" for spent in taken.values())
    return (
        f"{classes:>7} {columns}   {statistics.median(ratios):5.0f} ({min(ratios):.0f} to {max(ratios):.0f})"
    )


class Stopwatch:
    """Seconds by part; time within an inner part is not the outer one's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.spent: dict[str, float] = {}
        self._clock = clock
        self._open: list[str] = []
        self._since = clock()

    def _turn(self) -> None:
        now = self._clock()
        if self._open:
            part = self._open[-1]
            self.spent[part] = self.spent.get(part, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def around(self, owner: object, attribute: str, name: str) -> AbstractContextManager[object]:
        """A patch that books calls of `owner.attribute` under `name`."""
        inner = getattr(owner, attribute)

        def timed(*args: object, **options: object) -> object:
            with self.part(name):
                return inner(*args, **options)

        return patch.object(owner, attribute, timed)


def measure_evaluate(options: argparse.Namespace, clock: Callable[[], float]) -> str:
    """The parts of one `evaluate` of a copy of the run, looking once, and their shares."""
    from maskwright import api, evaluation
    from maskwright.data.dataset import Dataset
    from maskwright.predict.predictor import Predictor

    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        copy = Path(folder) / options.run.resolve().name
        shutil.copytree(options.run, copy, ignore=shutil.ignore_patterns("checkpoints", "scores", "events*"))
        if options.size is not None:
            config = copy / "model" / CONFIG
            said = json.loads(config.read_text())
            said["input"]["size"] = [int(side) for side in options.size.split(",")]
            config.write_text(json.dumps(said))
        opened, watch = mw.Run.open(copy), Stopwatch(clock)
        dataset = opened.folder.read_dataset() if options.data is None else mw.open_dataset(options.data)
        dataset.fingerprint()  # files are read once before either is timed
        load = Predictor.load

        def load_timed(*args: Any, **options: Any) -> Predictor:
            predictor = load(*args, **options)
            patches.enter_context(watch.around(predictor.network, "forward", "network"))
            return predictor

        patches.enter_context(patch.object(Predictor, "load", load_timed))
        for owner, attribute, name in (
            (Dataset, "image", "reading pictures"),
            (Dataset, "mask", "reading masks"),
            (Predictor, "__call__", "resizing, probabilities"),
            (evaluation, "scores", "intervals"),
            (api, "save_gallery", "gallery"),
        ):
            patches.enter_context(watch.around(owner, attribute, name))
        profiler = cProfile.Profile()
        if options.profile:
            profiler.enable()
        with watch.part("counting and the rest"):
            result = opened.evaluate("test", data=dataset, tta="none")
        if options.profile:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
        network_size = " x ".join(str(side) for side in opened.predictor().spec.input.size)
    whole = sum(watch.spent.values())
    lines = [
        f"{part:<24} {spent:>8.2f} s {spent / whole:>7.1%}"
        for part, spent in sorted(watch.spent.items(), key=lambda entry: -entry[1])
    ]
    outside = 1 - watch.spent["network"] / whole
    title = f"{opened.name}: {result.n_images} pictures, network input {network_size}, looking once"
    return "\n".join(
        [
            title,
            *lines,
            f"{'together':<24} {whole:>8.2f} s",
            f"outside the network: {outside:.1%} (target: under 25 %)",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--repeats", type=int, default=9, help="after two that warm up")
    parser.add_argument("--run", type=Path, help="time evaluate on a copy of this run folder instead")
    parser.add_argument("--data", help="another data set than the run's own")
    parser.add_argument("--size", help="H,W of the network's input, where the run's own is not wanted")
    parser.add_argument("--profile", action="store_true", help="functions by their own time (slows down)")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="processor: on a busy machine")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    torch.set_num_threads(options.threads)
    if options.run is not None:
        print(measure_evaluate(options, clock))
        return
    print(
        f"{' x '.join(map(str, SHAPE))} int64, {options.threads} threads, {options.repeats} repeats, milliseconds"
    )
    print(
        f"{'classes':>7} {'ours':>15} {'torchmetrics':>15} {'ours, uint8':>15} {'with intervals':>15}   times faster"
    )
    for classes in (12, 2):
        print(measure_counting(classes, options.repeats, clock), flush=True)


if __name__ == "__main__":
    main()
