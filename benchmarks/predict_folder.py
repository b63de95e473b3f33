"""What it brings that decoding, the network and writing overlap: a folder of JPEGs, predicted both ways in turn.

The old way is here as a plain loop: read a picture, predict it, write its files, go on. Both write the same bytes,
which is checked. Each round times both, in changing order; the figure is the median of the rounds' ratios (loop /
overlapped), with the least and the greatest.

--network-ms stands in for an accelerator: the processor waits that long for each answer, a mask of the bright pixels.

    python benchmarks/predict_folder.py RUN_OR_MODEL
    python benchmarks/predict_folder.py RUN_OR_MODEL --network-ms 50
    python benchmarks/predict_folder.py runs/pets --pictures 60 --side 1200 --save mask,overlay --device cuda
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image

from maskwright.files import write_bytes
from maskwright.predict.encode import ENCODE, Kind
from maskwright.predict.inputs import plan
from maskwright.predict.journal import NAME
from maskwright.predict.predictor import Predictor
from maskwright.tensors import Prediction


class Elsewhere(Predictor):
    """The input and output sides of a predictor; its network works on another chip."""

    milliseconds = 0.0

    def __call__(self, image: np.ndarray | Image.Image | str | Path) -> Prediction:
        time.sleep(self.milliseconds / 1000)
        bright = self.picture(image)[..., 0].astype(np.float32) / 255
        shares = np.stack([bright, 1 - bright])
        return Prediction(shares.argmax(0).astype(np.uint8), shares)


def write_photos(folder: Path, pictures: int, side: int) -> Path:
    """JPEGs of 3:4 with as much detail as photographs have: about 2 bits a pixel."""
    folder.mkdir()
    random = np.random.default_rng(0)
    height, width = side * 3 // 4, side
    for number in range(pictures):
        picture = np.zeros((height, width, 3))
        for scale in (4, 16, 64, 256):
            coarse = random.integers(0, 256, (height // scale + 2, width // scale + 2, 3), np.uint8)
            large = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            picture += np.asarray(large) * {4: 0.1, 16: 0.2, 64: 0.3, 256: 0.4}[scale]
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number:04}.jpg", quality=90)
    return folder


def in_a_loop(model: Predictor, photos: Path, out: Path, kinds: Sequence[Kind]) -> None:
    for job in plan(out, [photos], kinds):
        picture = model.picture(job.source)
        said = model(picture)
        for kind, target in job.targets.items():
            write_bytes(target, ENCODE[kind](picture, said, model.classes))


def overlapped(model: Predictor, photos: Path, out: Path, kinds: Sequence[Kind]) -> None:
    assert not [each for each in model.save(out, photos, save=kinds) if each.error]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != NAME}


def seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--photos", type=Path, help="a folder of pictures; generated without it")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--side", type=int, default=1000, help="width of the generated ones")
    parser.add_argument("--save", default="mask,overlay")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--network-ms", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    kinds = cast(list[Kind], given.save.split(","))
    torch.set_num_threads(given.threads or torch.get_num_threads())
    kind = Elsewhere if given.network_ms else Predictor
    model = kind.load(given.model, given.device)
    Elsewhere.milliseconds = given.network_ms
    ways = {"loop": in_a_loop, "overlapped": overlapped}
    ratios, times = [], {name: list[float]() for name in ways}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos = given.photos or write_photos(folder / "photos", given.pictures, given.side)
        overlapped(model, photos, folder / "warm", kinds)
        for turn in range(given.rounds):
            for name in sorted(ways, reverse=bool(turn % 2)):
                shutil.rmtree(folder / name, ignore_errors=True)
                work = ways[name]
                times[name].append(
                    seconds(lambda work=work, name=name: work(model, photos, folder / name, kinds))
                )  # type: ignore[misc]
            assert contents(folder / "loop") == contents(folder / "overlapped"), "not the same files"
            ratios.append(times["loop"][-1] / times["overlapped"][-1])
        pictures = len(list(photos.iterdir()))
    network = f"{model.spec.model.name} at {model.spec.input.size} on {model.device}"
    if given.network_ms:
        network = f"a network elsewhere of {given.network_ms:g} ms"
    print(
        f"{pictures} pictures, {given.save}, {network}, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    )
    for name, measured in times.items():
        print(f"{name:>10}: {statistics.median(measured) / pictures * 1000:.1f} ms a picture")
    print(
        f"loop / overlapped: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, "
        f"{given.rounds} rounds)"
    )


if __name__ == "__main__":
    main()
