"""Every own model and eleven of the zoo, trained for a minute, exported, and put through the gate.

Writes the table of docs/parity.md. A run that lies there already is not trained again.

    python benchmarks/parity.py data/pets --out docs/parity.md
    python benchmarks/parity.py data/pets --models unet fpn:mobilenetv3_small_100 --precisions fp32
    python benchmarks/parity.py data/pets --speed       # of the files that lie there: int8 against fp32
    python benchmarks/parity.py data/pets --speed --threads 1 --clock processor     # on a busy machine
    python benchmarks/parity.py data/pets --profile --models linknet:resnet18       # which operators take the time
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

import maskwright as mw
from maskwright.errors import UserError
from maskwright.export.export import export
from maskwright.export.gate import TOLERANCES, chosen
from maskwright.predict.backends import Backend, OnnxRuntime
from maskwright.predict.passport import Passport, Row, read_passport
from maskwright.runfolder import RunFolder
from maskwright.tensors import Picture

MODELS = (
    "unet",
    "attention-unet",
    "cbam-unet",
    "aspp-unet",
    "transformer-unet",
    "subpixel-unet",
    "aspp-gate-unet",
    "resnet34-unet",
    "unetplusplus",
    "dual-unet",
    "deeplabv3plus:resnet18",
    "pspnet:resnet18",
    "fpn:mobilenetv3_small_100",
    "upernet:test_convnext",
    "segformer:mit_b0",
    "linknet:resnet18",
    "manet:test_resnet",
    "pan:resnet18",
    "smp-unet:resnet18",
    "setr-pup:test_vit",
    "dpt:test_vit",
)
PICTURES, ROUNDS = 12, 9
"""Whose time is taken."""
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
HEAD = """# Every model, exported

Each network was trained for {budget} on Oxford-IIIT Pet at {size} px (`resnet34-unet` longer, at 256 x 256), exported
with `maskwright export`, and put beside itself by the parity gate: {pictures} validation pictures at their own size
and batches of {shapes}
(N of height x width). An export over the tolerance ({flipped:.2%} of pixels or {dice:g} of Dice in fp32) would not be
written. The Dice is that of a network that has learnt for a minute: enough for its logits to differ from pixel to
pixel, which those of random weights do not.
The table is what this prints:

```console
python benchmarks/parity.py data/pets --pictures {pictures} --out docs/parity.md
```

Measured {date} with {versions}.

"""
COLUMNS = (
    "model",
    "file",
    "runtime",
    "Dice",
    "change of Dice",
    "pixels flipped",
    "logits off by",
    "verdict",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--precisions", nargs="*", default=("fp32", "int8"))
    parser.add_argument("--runs", type=Path, default=Path("runs/parity"))
    parser.add_argument("--size", default="128,128")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="processor: on a busy machine")
    args = parser.parse_args()
    if args.speed or args.profile:
        for model in args.models:
            folder = args.runs / model.replace(":", "-")
            files = [folder / "export" / name for name in ("model.onnx", "model-int8.onnx")]
            if not all(file.is_file() for file in files):
                print(f"| `{model}` | not exported in both |", flush=True)
                continue
            dataset, channels = RunFolder(folder).read_dataset(), read_passport(files[0]).spec.channels
            pictures = [dataset.image(item, channels) for item in chosen(dataset, "validation", PICTURES)]
            if args.speed:
                speed(model, files, pictures, args.threads, CLOCKS[args.clock])
            else:
                profile(model, files, pictures, args.threads)
        return 0

    rows: list[tuple[str, ...]] = []
    failed = False
    for precision, model in itertools.product(args.precisions, args.models):
        folder = args.runs / model.replace(":", "-")
        if not (folder / "scores" / "validation" / "scores.json").is_file():
            keys = {"model.name": model, "input.size": args.size, "input.tta": "none"}
            mw.train(
                None, args.data, keys, folder.name, runs=args.runs, budget=args.budget, threads=args.threads
            )
        began = time.monotonic()
        try:
            outcome = export(
                folder, precision=precision, pictures=args.pictures, threads=args.threads, tta="none"
            )
        except UserError as error:
            rows.append((f"`{model}`", precision, *["–"] * 5, str(error)))
            print(*rows[-1], sep="  ", flush=True)
            failed = True
            continue
        assert outcome.passport.proof is not None
        for row in outcome.passport.proof.rows:
            rows.append(line(model, outcome.passport, row))
            print(*rows[-1], f"{time.monotonic() - began:.0f} s", sep="  ", flush=True)
        failed |= outcome.path is None
        if args.out:
            args.out.write_text(page(args, outcome.passport, rows))
    return int(failed)


def speed(
    model: str, files: Sequence[Path], pictures: Sequence[Picture], threads: int, clock: Callable[[], float]
) -> None:
    """Prints how many times as fast int8 is as fp32 in ONNX Runtime: two sessions see the same pictures in turn."""
    full, lower = (OnnxRuntime(file, threads) for file in files)
    rounds = [(seconds(full, pictures, clock), seconds(lower, pictures, clock)) for _ in range(ROUNDS + 1)]
    ratios = [before / after for before, after in rounds[1:]]
    ours = statistics.median(ratios), min(ratios), max(ratios)
    print("| `{}` | {:.2f} ({:.2f} to {:.2f}) |".format(model, *ours), flush=True)


def seconds(backend: Backend, pictures: Sequence[Picture], clock: Callable[[], float]) -> float:
    """Of the median picture: one at a time, at its own size, to its mask."""
    found = []
    for picture in pictures:
        began = clock()
        backend(picture[None], ("mask",))
        found.append(clock() - began)
    return statistics.median(found)


def profile(model: str, files: Sequence[Path], pictures: Sequence[Picture], threads: int) -> None:
    """Prints the share that each kind of operator has of the time in ONNX Runtime, the largest first."""
    for file in files:
        with tempfile.TemporaryDirectory() as folder:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.enable_profiling = threads, True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
            for picture in itertools.chain.from_iterable([pictures] * ROUNDS):
                session.run(["mask"], {"images": np.ascontiguousarray(picture[None])})
            events = json.loads(Path(session.end_profiling()).read_text())
        spent = Counter[str]()
        for event in events:
            if event["name"].endswith("_kernel_time"):
                spent[event["args"]["op_name"]] += event["dur"]
        shares = ", ".join(f"{name} {took / spent.total():.0%}" for name, took in spent.most_common(9))
        print(f"{model} {file.name}: {shares}", flush=True)


def line(model: str, passport: Passport, row: Row) -> tuple[str, ...]:
    assert passport.proof is not None
    reference = passport.proof.reference
    same = f"the same, {len(passport.kept)} layers in fp32" if passport.kept else "the same"
    change = "–" if row.change is None else f"{row.change:+.5f}"
    if row.change_ci95:
        change += " ({:+.5f} to {:+.5f})".format(*row.change_ci95)
    return (
        f"`{model}`",
        row.precision,
        row.backend,
        f"{reference.dice:.3f}",
        change,
        f"{row.flipped:,} of {row.pixels:,}" if row.flipped else "0",
        "–" if row.logits is None else f"{row.logits:.1g}",
        "; ".join(row.faults) or same,
    )


def page(args: argparse.Namespace, passport: Passport, rows: list[tuple[str, ...]]) -> str:
    proof, versions = passport.proof, passport.versions
    assert proof is not None
    head = HEAD.format(
        budget=args.budget,
        size=args.size.replace(",", " x "),
        pictures=proof.pictures,
        shapes=", ".join(f"{n} of {height} x {width}" for n, height, width in proof.shapes),
        flipped=TOLERANCES["fp32"].flipped,
        dice=TOLERANCES["fp32"].dice,
        date=time.strftime("%Y-%m-%d"),
        versions=", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime", "openvino")),
    )
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    return head + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
