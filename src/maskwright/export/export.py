"""A model leaves the lab: made, put beside the one that was evaluated, and only then written."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np

from maskwright import __version__
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.errors import ConfigError, DataError, RunError
from maskwright.evaluation import check_classes
from maskwright.export.gate import PICTURES, TOLERANCES, chosen, prove, spread
from maskwright.export.graph import save_ir, save_onnx, save_program, stamp_ir, to_onnx, trace
from maskwright.export.half import halve
from maskwright.export.quantise import BETWEEN, HEAVY, quantisable, quantise, sensitive
from maskwright.export.runner import check_runner, write_runner
from maskwright.export.whole import Whole
from maskwright.files import file_hash, publish
from maskwright.metrics.scores import Scores
from maskwright.predict.backends import Backend, OnnxRuntime, OpenVino, TorchPackage
from maskwright.predict.ensemble import split_names
from maskwright.predict.formats import SUFFIXES, Format, Precision, check_kind
from maskwright.predict.hub import WEIGHTS, is_hub
from maskwright.predict.model_folder import find_model
from maskwright.predict.passport import (
    Looks,
    Passport,
    Tolerance,
    as_text,
    digest_of,
    files_of,
    is_ours,
)
from maskwright.predict.predictor import Predictor
from maskwright.progress import SILENT, Progress
from maskwright.receipt import read_receipt, receipt_facts, versions
from maskwright.runfolder import RunFolder
from maskwright.tensors import Picture

DRAFTS = ".export-"
"""Begins the folder beside the file in which it is made."""
LEFTOVER = 24 * 3600
"""Seconds after which such a folder is nobody's. While the file in it is proven nothing touches it, for hours maybe."""
CALIBRATED = 32
"""Pictures of the split from which int8 learns its ranges, and on which layers are chosen that stay fp32."""
STEPS = (2, 4, 8, 16)
"""Layers left in fp32, the most sensitive first: one attempt after the other, as long as there are more layers."""
SEEN_CLOSELY = 2
"""Pictures on which layers are ranked, each layer alone."""


@dataclass(frozen=True)
class Outcome:
    """What became of an export."""

    path: Path | None
    """The file; None where the gate failed and nothing was written."""
    passport: Passport
    """With its proof."""
    runner: Path | None = None


def export(
    model: str | Path,
    out: str | Path | None = None,
    *,
    format: Format = "onnx",
    precision: Precision = "fp32",
    tta: str | None = None,
    data: str | Path | Dataset | None = None,
    split: str = "validation",
    pictures: int = PICTURES,
    tolerance: Tolerance | None = None,
    runner: bool = False,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Outcome:
    """Write `out` (.onnx, .xml or .pt2) if the gate says that it is the model that was evaluated.

    model: a run, its name, or a model folder, which needs `data`. out: `export/model.onnx` in the run where None, and
    `export/model-int8.onnx` and so on in lower precision; of a folder, those names in it. tta: the recipe's own where
    None; its looks are inside the file. data, split, pictures: where the proof comes from. runner: write run.py beside
    it. No file that maskwright did not write is replaced. Raises UserError.
    """
    check_kind(format, precision, runner)
    if len(split_names(str(model))) > 1:
        raise ConfigError(f"{model} is an ensemble, and a file holds one network", "export each of the runs")
    if is_hub(model) and out is None:
        raise ConfigError(f"{model} lies on a hub", "say where the file goes: --out FILE")
    folder = find_model(model)
    run = RunFolder(folder.parent) if (folder.parent / "recipe.yaml").is_file() else None
    predictor = Predictor.load(folder, "cpu", tta)
    target = _target(out, folder, run, format, precision)
    dataset = _dataset(data, run, folder, progress)
    # Mistakes are told now rather than after minutes of work.
    check_classes(predictor.classes.names, dataset.classes.names)
    _check_writable(target.parent)
    if out is not None:  # what lies in the run's own folder is ours, whatever its state
        _check_ours(target)
    if runner:
        check_runner(target)
    _remove_leftovers(target.parent)
    items = chosen(dataset, split, pictures)
    with tempfile.TemporaryDirectory(prefix=DRAFTS, dir=target.parent) as beside:
        draft = Path(beside) / target.name
        passport = _passport(predictor, folder, run, precision)
        progress.say(f"Exporting {passport.run} to {format}, {precision}")
        made = _make(predictor, dataset, split, format, precision, threads, progress)
        passport = passport.model_copy(update={"kept": made.kept})
        made.save(passport, draft)
        proof = prove(
            made.opened(draft),
            predictor,
            dataset,
            items,
            tolerance=tolerance,
            threads=threads,
            progress=progress,
        )
        passport = passport.model_copy(update={"digest": digest_of(draft), "proof": proof})
        if not proof.passed:
            return Outcome(None, passport)
        made.stamp(passport, draft)
        if digest_of(draft) != passport.digest:
            raise RunError(f"{target.name} came out otherwise the second time", "please report this")
        publish(draft.parent, target.parent, [file.name for file in files_of(draft)])
    return Outcome(target, passport, write_runner(target) if runner else None)


@dataclass(frozen=True)
class Made:
    """A model in some format, in no file yet."""

    save: Callable[[Passport, Path], None]
    stamp: Callable[[Passport, Path], None]
    """Another passport into the file that lies there; all that is computed stays."""
    opened: Callable[[Path], list[tuple[Backend, Precision]]]
    """The runtimes that read the saved file, its own first."""
    kept: tuple[str, ...] = ()
    """Layers that int8 left in fp32."""


def _make(
    predictor: Predictor,
    dataset: Dataset,
    split: str,
    format: Format,
    precision: Precision,
    threads: int | None,
    progress: Progress,
) -> Made:
    program = trace(Whole(predictor.spec, predictor.network, predictor.tta).eval())
    if format == "torch":
        return Made(
            partial(save_program, program),
            partial(save_program, program),
            lambda path: [(TorchPackage(path), precision)],
        )
    graph: Any = to_onnx(program)
    kept: tuple[str, ...] = ()
    if precision == "int8":
        graph, kept = _in_int8(graph, _pictures(dataset, split, predictor.channels), threads, progress)
    if format == "openvino":
        return Made(
            partial(save_ir, graph, half=precision == "fp16"),
            stamp_ir,
            lambda path: [(OpenVino(path, precision, threads), precision)],
            kept,
        )
    if precision == "fp16":
        graph = halve(graph)
    return Made(
        partial(save_onnx, graph),
        partial(save_onnx, graph),
        lambda path: [(OnnxRuntime(path, threads), precision), *_also_openvino(path, precision, threads)],
        kept,
    )


def _in_int8(
    graph: Any, shown: Sequence[Picture], threads: int | None, progress: Progress
) -> tuple[Any, tuple[str, ...]]:
    """The graph in 8 bits: all of it, or the layers alone where that flips too many pixels, or with as few of these
    left in fp32 as keep it well within the tolerance; and the names of those left. Where nothing helps it is the last
    attempt, about which the gate decides. Raises RunError where there is nothing to quantise.
    """
    if not quantisable(graph):
        raise RunError("the network has no layer that could compute in 8 bits", "use --precision fp32")
    kept: tuple[str, ...] = ()
    heavy = quantisable(graph)
    for nodes in (quantisable(graph, (*HEAVY, *BETWEEN)), heavy):
        made = quantise(graph, shown, nodes)
        if _flips_few(graph, made, shown, threads):
            return made, kept
    progress.say("8 bits everywhere flip too many pixels: looking for the layers that need more")
    ranked = sensitive(graph, shown[:: len(shown) // SEEN_CLOSELY + 1], threads, progress)
    for number in (number for number in STEPS if number < len(ranked)):
        kept = ranked[:number]
        made = quantise(graph, shown, [name for name in heavy if name not in kept])
        if _flips_few(graph, made, shown, threads):
            break
    return made, kept


def _flips_few(graph: Any, made: Any, shown: Sequence[Picture], threads: int | None) -> bool:
    """Whether two graphs give the same class to so many pixels of `shown` that the gate will be passed."""
    one, other = (OnnxRuntime.of_graph(model, threads) for model in (graph, made))
    differ = [one(picture[None], ("mask",))[0] != other(picture[None], ("mask",))[0] for picture in shown]
    flipped = sum(int(np.count_nonzero(mask)) for mask in differ)
    return bool(flipped <= TOLERANCES["int8"].flipped / 2 * sum(mask.size for mask in differ))


def _pictures(dataset: Dataset, split: str, channels: int) -> list[Picture]:
    """CALIBRATED pictures from all over the split; those that cannot be read are left out. Raises DataError."""
    shown: list[Picture] = []
    for item in spread(dataset.split(split), CALIBRATED):
        with suppress(DataError):
            shown.append(dataset.image(item, channels))
    if not shown:
        raise DataError(
            f"{dataset.name} has no picture in split {split!r} that can be read", "choose --split"
        )
    return shown


def _also_openvino(draft: Path, precision: Precision, threads: int | None) -> list[tuple[Backend, Precision]]:
    """OpenVINO reads ONNX files as well: where it is installed, the proof says how it does."""
    try:
        return [(OpenVino(draft, precision, threads), precision)]
    except RunError:
        return []


def _target(
    out: str | Path | None, folder: Path, run: RunFolder | None, format: Format, precision: Precision
) -> Path:
    suffix = next(suffix for suffix, kind in SUFFIXES.items() if kind == format)
    name = f"model{'' if precision == 'fp32' else f'-{precision}'}{suffix}"
    if out is None:
        return (folder if run is None else run.exports) / name
    path = Path(out)
    if path.is_dir():
        return path / name
    if path.suffix.lower() != suffix:
        raise ConfigError(f"--out {path} does not end in {suffix}", f"that is what --format {format} writes")
    return path


def _dataset(
    data: str | Path | Dataset | None, run: RunFolder | None, folder: Path, progress: Progress
) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if data is not None:
        return open_dataset(data, progress=progress)
    if run is None:
        raise RunError(
            f"{folder} is a model folder without its run, and so without pictures",
            "name some with masks: --data DATA; without them nothing can be proven",
        )
    return run.read_dataset()


def _check_writable(folder: Path) -> None:
    """Raises RunError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written to: {error.strerror or error}", "choose another --out"
        ) from error


def _check_ours(target: Path) -> None:
    """Raises RunError over a file that maskwright did not export: of another tool, or a .bin that nobody named."""
    there = [file for file in files_of(target) if file.exists()]
    if there and not is_ours(target):
        raise RunError(
            f"{there[0]} is damaged, or was not exported by maskwright, and stays as it is",
            "move it away, or choose another --out",
        )


def _remove_leftovers(folder: Path) -> None:
    """What a kill in the middle of an export left behind: another may be at work."""
    for leftover in folder.glob(f"{DRAFTS}*"):
        with suppress(FileNotFoundError):  # the other may have finished just now
            if time.time() - leftover.stat().st_mtime > LEFTOVER:
                shutil.rmtree(leftover, ignore_errors=True)


def _passport(predictor: Predictor, folder: Path, run: RunFolder | None, precision: Precision) -> Passport:
    facts: dict[str, str] = {}
    known: dict[str, float | None] = {}
    if run is not None:
        with suppress(RunError):  # old runs have none
            facts = receipt_facts(read_receipt(run.receipt_file))
        for file in sorted(run.path.glob("scores/*/scores.json")):
            value = Scores.load(file.parent)["dice_image"].value
            known[as_text(file.parent.name)] = value if math.isfinite(value) else None
    return Passport(
        run=as_text((run.path if run else folder).resolve().name),
        spec=predictor.spec,
        tta=cast(Looks, predictor.tta),
        precision=precision,
        weights=file_hash(folder / WEIGHTS),
        receipt={label: as_text(value) for label, value in facts.items()},
        scores=known,
        versions={"maskwright": __version__} | _made_with(),
    )


def _made_with() -> dict[str, str]:
    found = versions()
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
