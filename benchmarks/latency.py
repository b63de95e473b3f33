"""From the bytes of a JPEG to the bytes of a mask, one picture at a time: PyTorch against what left the lab.

Every way runs in a process of its own, which is asked in turn: ROUNDS times PICTURES pictures by each, so that whatever
else happens on the machine happens to all. A ratio is that of the medians of one round; its range is over the rounds.
Files are exported anew, with their gates: lower precision passes at 0.005 of Dice, or it is not in the table.

    python benchmarks/latency.py runs/pets                       # looks once, two threads
    python benchmarks/latency.py runs/pets --rounds 20 --threads 1
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

PICTURES, ROUNDS = 12, 9
WAYS = {
    "PyTorch eager, fp32": None,
    "ONNX Runtime, fp32": ("onnx", "fp32"),
    "OpenVINO, fp32": ("openvino", "fp32"),
    "ONNX Runtime, int8": ("onnx", "int8"),
    "OpenVINO, int8": ("openvino", "int8"),
    "OpenVINO, bf16": ("openvino", "bf16"),
}
DICE = 0.005
"""What lower precision may change."""


def work(pipe: Connection, model: str, jpegs: list[bytes], threads: int) -> None:
    """A child: answers each request with the seconds of every picture."""
    import numpy as np
    import torch
    from PIL import Image

    from maskwright.data.image_io import mask_png
    from maskwright.predict.ensemble import load_predictor

    torch.set_num_threads(threads)
    exported = Path(model).is_file()
    predictor = load_predictor(model, "cpu", None if exported else "none", threads if exported else None)
    while pipe.recv():
        seconds = []
        for jpeg in jpegs:
            began = time.perf_counter()
            picture = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
            assert mask_png(predictor(picture).mask, predictor.classes)
            seconds.append(time.perf_counter() - began)
        pipe.send(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    from maskwright.export.export import export
    from maskwright.export.gate import TOLERANCES
    from maskwright.runfolder import RunFolder

    dataset = RunFolder.open(args.run).read_dataset()
    jpegs = [Path(str(item.image)).read_bytes() for item in dataset.split("validation")[:PICTURES]]
    with tempfile.TemporaryDirectory() as folder:
        models: dict[str, str] = {}
        for way, kind in WAYS.items():
            if kind is None:
                models[way] = str(args.run)
                continue
            format, precision = kind
            path = Path(folder) / f"{precision}{ {'onnx': '.onnx', 'openvino': '.xml'}[format] }"
            limit = TOLERANCES[precision]
            limit = limit.model_copy(update={"dice": min(DICE, limit.dice)})
            outcome = export(
                args.run,
                path,
                format=format,
                precision=precision,
                tta="none",
                tolerance=limit,
                threads=args.threads,
            )
            assert outcome.passport.proof is not None
            row = outcome.passport.proof.rows[0]
            print(
                f"{way}: Dice {row.dice:.4f}, change {row.change:+.5f} {row.change_ci95}, {row.share:.3%} flipped"
            )
            if outcome.path is None:
                print(f"{way}: refused: {'; '.join(row.faults)}")
            else:
                models[way] = str(path)
        measure(models, jpegs, args.rounds, args.threads)


def measure(models: dict[str, str], jpegs: list[bytes], rounds: int, threads: int) -> None:
    context = multiprocessing.get_context("spawn")
    children = {}
    for way, model in models.items():
        ours, theirs = context.Pipe()
        child = context.Process(target=work, args=(theirs, model, jpegs, threads), daemon=True)
        child.start()
        children[way] = ours

    def ask(way: str) -> float:
        children[way].send(True)
        return statistics.median(children[way].recv())

    for way in children:
        ask(way)  # warm
    found: dict[str, list[float]] = {way: [] for way in children}
    for _ in range(rounds):
        for way in children:
            found[way].append(ask(way))
    first, *others = found
    print(f"{'':24s} {'ms a picture':>14s} {'times as fast':>16s}")
    print(f"{first:24s} {1e3 * statistics.median(found[first]):14.1f} {'1':>16s}")
    for way in others:
        ratios = [eager / own for eager, own in zip(found[first], found[way], strict=True)]
        text = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{way:24s} {1e3 * statistics.median(found[way]):14.1f} {text:>20s}")
    for pipe in children.values():
        pipe.send(False)


if __name__ == "__main__":
    main()
