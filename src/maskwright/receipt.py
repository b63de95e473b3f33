"""The receipt of a run: what it was made with, and what its weights were after steps 1 to 8, 16, 32, ...

Pure parts: what a receipt holds, where its facts come from, how two of them differ. `training.record` writes it while
a run goes on, `replay` does the first steps again and compares.

A hash says whether a tensor has the same bits. Where it has not, a few numbers per tensor say by how much: the root
mean square of its entries, their mean, and SAMPLES entries at fixed places. They see a change of the whole tensor and
cannot see one that is confined to entries between the samples and cancels in the sums; weights are not stored.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, Protocol, Self, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import Tensor

import maskwright
from maskwright.config import Recipe, flatten, make_recipe
from maskwright.errors import RunError
from maskwright.files import write_text

SAMPLES = 4
"""Entries of each tensor that are kept: the first, the last, and others evenly between them."""

PACKAGES = (
    "maskwright",
    "torch",
    "numpy",
    "pillow",
    "scipy",
    "accelerate",
    "timm",
    "segmentation-models-pytorch",
    "torchvision",
    "safetensors",
)
"""Those that can change a number of a run."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Life(Part):
    """A process that worked on the run, and its surroundings."""

    step: int
    """Steps that were done when it began."""
    begun: str
    """UTC."""
    versions: dict[str, str]
    revision: str
    """Of the git checkout that maskwright runs from, with a + where files differ from it; empty elsewhere."""
    source: str
    """16 hex digits of maskwright's own Python files."""
    hardware: dict[str, str]
    device: str
    precision: Literal["fp32", "bf16", "fp16"]
    threads: int
    flags: dict[str, str]
    """Switches of torch that decide which kernels run."""
    data: str
    """Fingerprint."""
    recipe: str
    """Hash."""


class Plan(Part):
    """What the clock, the memory and the validation scores decided; in force after `step` steps."""

    step: int
    total_steps: int
    micro_batch: int
    strength: float
    drops: int


class Mark(Part):
    """The state after `step` steps."""

    step: int
    loss: float | None
    """Of that step; None for step 0."""
    pictures: str
    """Of that step: digest of the decoded pictures, masks and targets; empty for step 0."""
    batch: str
    """The same after augmentation, as the network got them."""
    weights: tuple[str, ...]
    """A hash for each of the receipt's `tensors`."""
    numbers: tuple[tuple[float, ...], ...]
    """`tensor_numbers` of each; empty for whole numbers."""
    averaged: str
    """Hash of the averaged weights; empty without."""


class Data(Part):
    """What the run was trained on; the digests of single pictures are in digests.csv."""

    name: str
    fingerprint: str
    classes: tuple[str, ...]
    values: dict[str, str]
    """Raw value -> class."""
    pictures: dict[str, int]
    """By split."""


class Init(Part):
    """The model folder whose weights were the start."""

    path: str
    weights: str
    """Hash of its model.safetensors."""


class Receipt(Part):
    """receipt.json."""

    format: Literal[1] = 1
    recipe: dict[str, object]
    data: Data
    init: Init | None
    budget: float | None
    """Seconds."""
    batch: int
    """With auto resolved."""
    skip_broken: bool
    tensors: tuple[str, ...]
    lives: tuple[Life, ...]
    plan: tuple[Plan, ...]
    marks: tuple[Mark, ...]
    """After steps 0 to 8, 16, 32, 64, ..."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.lives or not self.plan or not self.marks:
            raise ValueError("lives, plan or marks are missing")
        if any({len(mark.weights), len(mark.numbers)} != {len(self.tensors)} for mark in self.marks):
            raise ValueError("the marks and the names of the tensors do not belong together")
        return self

    def to_json(self) -> str:
        """A line for each key: what people read stands at the top."""
        lines = (f'"{key}": {json.dumps(value)}' for key, value in self.model_dump(mode="json").items())
        return "{\n" + ",\n".join(lines) + "\n}\n"


def read_receipt(file: Path) -> Receipt:
    """Raises RunError: no receipt, or a damaged one."""
    try:
        return Receipt.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise RunError(
            f"{file.parent} has no {file.name}: it was begun by a version without receipts",
            "train anew with its recipe.yaml",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{file} is damaged: {where + ': ' if where else ''}{first['msg']}",
            "restore it from a copy; the run itself does not need it",
        ) from error
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}", "check its permissions") from error


# Where the facts come from


def versions() -> dict[str, str]:
    """Python and those of PACKAGES that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.version.cuda:
        found |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]
    return found


def hardware() -> dict[str, str]:
    """Names of CPU and GPUs, cores, and the instructions that torch's CPU kernels use."""
    return {
        "system": platform.platform(),
        "cpu": processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": "yes" if bf16_on_cpu() else "no",
        "gpu": ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count()))) or "none",
    }


def processor() -> str:
    """Its name; Linux tells it only in /proc."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            names = [line.partition(":")[2].strip() for line in handle if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def bf16_on_cpu() -> bool:
    """Whether the CPU has instructions for it."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def flags() -> dict[str, str]:
    """Switches of torch that decide which kernels run, and so the order of sums."""
    cudnn = torch.backends.cudnn
    return {
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "cudnn deterministic": str(cudnn.deterministic),
        "cudnn benchmark": str(cudnn.benchmark),
        "oneDNN": str(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
    }


def source() -> str:
    """16 hex digits of maskwright's own Python files."""
    root, total = Path(maskwright.__path__[0]), hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        total.update(str(file.relative_to(root).as_posix()).encode() + b"\n" + file.read_bytes())
    return total.hexdigest()[:16]


def revision() -> str:
    """The commit that maskwright runs from, with a + where its files differ; empty where it is no git checkout."""
    root = Path(maskwright.__path__[0]).resolve().parents[1]
    if not (root / ".git").exists():  # a checkout around an installed package is another project's
        return ""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+" if commit and git("status", "--porcelain", "--", "src") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def recipe_hash(recipe: Mapping[str, object]) -> str:
    """16 hex digits of its JSON with sorted keys."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def tensors_hash(tensors: Iterable[Tensor | None]) -> str:
    """16 hex digits of the SHA-256 over type, shape and bytes of each, row by row whatever its layout in memory."""
    total = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            total.update(b"none")
            continue
        total.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


def tensor_numbers(tensor: Tensor) -> tuple[float, ...]:
    """Root mean square and mean of the entries, then SAMPLES of them; nothing for whole numbers and empty tensors.

    Summed in float64 by one thread, so that the same bits give the same numbers.
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return ()
    entries = tensor.detach().cpu().contiguous().reshape(-1)
    if entries.element_size() < 4:
        entries = entries.float()
    array = entries.numpy()
    places = np.unique(np.linspace(0, len(array) - 1, SAMPLES).astype(int))
    with np.errstate(over="ignore", invalid="ignore"):  # weights may explode: that is for the loss to tell
        squares, mean = np.square(array).mean(dtype=np.float64), array.mean(dtype=np.float64)
    return math.sqrt(float(squares)), float(mean), *array[places].tolist()


def write_digests(file: Path, digests: Mapping[str, Sequence[str]], targets: Sequence[str]) -> None:
    """digests.csv of `Dataset.digests`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "split", "picture", "mask", *targets])
    writer.writerows([name, *row] for name, row in digests.items())
    write_text(file, text.getvalue())


def read_digests(file: Path) -> dict[str, dict[str, str]]:
    """By id: column -> text; empty where the file is missing or damaged."""
    try:
        with open(file, newline="", encoding="utf-8") as handle:
            return {row.pop("id"): row for row in csv.DictReader(handle)}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return {}


# How two of them differ


class _Stepped(Protocol):
    @property
    def step(self) -> int: ...


Entry = TypeVar("Entry", bound=_Stepped)


def in_force(entries: Sequence[Entry], step: int) -> Entry:
    """The last entry that holds after `step` steps."""
    return [entry for entry in entries if entry.step <= step][-1]


def recipe_changes(receipt: Receipt, recipe: Recipe) -> tuple[str, ...]:
    """`optim.learning_rate (0.005 then, 0.01 now)` for each key that differs. Raises ConfigError."""
    then = flatten(make_recipe(flatten(receipt.recipe), source="the receipt").model_dump(mode="json"))
    now = flatten(recipe.model_dump(mode="json"))
    keys = [*then, *(key for key in now if key not in then)]
    return tuple(
        f"{key} ({then.get(key)} then, {now.get(key)} now)" for key in keys if then.get(key) != now.get(key)
    )


@dataclass(frozen=True)
class DataChange:
    """An item that is not what it was."""

    id: str
    split: str
    """Where it was in the run; of a new one, where it is now."""
    what: str
    """picture, mask, the name of a target, split, gone or new; several with a comma."""

    @property
    def trains(self) -> bool:
        """Whether training or the choice of the best epoch may depend on it."""
        return self.split in ("train", "validation") or self.what in ("split", "new")

    def __str__(self) -> str:
        return f"{self.id} ({self.split}: {self.what})"


def data_changes(
    then: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> tuple[DataChange, ...]:
    """Item by item; both as `read_digests` gives them."""
    changes = []
    for name, before in then.items():
        after = now.get(name)
        if after is None:
            changes.append(DataChange(name, before["split"], "gone"))
            continue
        columns = [column for column in {**before, **after} if before.get(column) != after.get(column)]
        if columns:
            changes.append(DataChange(name, before["split"], ", ".join(columns)))
    added = [DataChange(name, row["split"], "new") for name, row in now.items() if name not in then]
    return (*changes, *added)


def life_changes(then: Life, now: Life) -> tuple[str, ...]:
    """What is different around the work, what matters most first: `torch 2.11.0 then, 2.12.0 now`."""
    pairs = [("the device", then.device, now.device), ("the precision", then.precision, now.precision)]
    names = [*then.versions, *(name for name in now.versions if name not in then.versions)]
    pairs += [(name, then.versions.get(name, "none"), now.versions.get(name, "none")) for name in names]
    pairs += [("the number of threads", str(then.threads), str(now.threads))]
    if then.source != now.source:
        revisions = then.revision[:12] or then.source, now.revision[:12] or now.source
        if then.revision[:12] == now.revision[:12]:
            revisions = then.source, now.source
        pairs += [("maskwright's own files", *revisions)]
    if then.hardware.get("cpu") != now.hardware.get("cpu") or then.device != "cpu":
        pairs += [(name, then.hardware.get(name, ""), now.hardware.get(name, "")) for name in ("cpu", "gpu")]
    name = "instructions"
    pairs += [("the CPU's instructions", then.hardware.get(name, ""), now.hardware.get(name, ""))]
    pairs += [(name, value, now.flags.get(name, "")) for name, value in then.flags.items()]
    return tuple(f"{what}: {before} then, {after} now" for what, before, after in pairs if before != after)


@dataclass(frozen=True)
class Check:
    """A recorded step, done again."""

    step: int
    loss_then: float | None
    loss_now: float | None
    differing: tuple[str, ...]
    """Tensors whose bits differ, in the network's order; `averaged` for the averaged weights."""
    drift: float
    """See `drift`."""
    pictures: bool
    """Whether the decoded pictures of the step have the same bits."""
    batch: bool
    """Whether the augmented ones have."""

    @property
    def exact(self) -> bool:
        return not self.differing and self.pictures and self.batch and self.loss_then == self.loss_now

    @property
    def loss_difference(self) -> float:
        """|now - then| / |then|."""
        if self.loss_then is None or self.loss_now is None or self.loss_then == self.loss_now:
            return 0.0
        return abs(self.loss_now - self.loss_then) / max(abs(self.loss_then), 1e-12)

    @property
    def side(self) -> str:
        """Where the first divergence comes from."""
        if self.step == 0:
            return "the initial weights"
        if not self.pictures:
            return "the pictures of the batch"
        if not self.batch:
            return "the augmentation of the batch"
        return "the network's answer" if self.loss_then != self.loss_now else "the gradients or the optimiser"


def compare_marks(then: tuple[Sequence[str], Mark], now: tuple[Sequence[str], Mark], start: Mark) -> Check:
    """Two marks of the same step, each with the names of its tensors. `start`: the run's mark of step 0."""
    (names, one), (other_names, other) = then, now
    before, after = (
        dict(zip(names, one.weights, strict=True)),
        dict(zip(other_names, other.weights, strict=True)),
    )
    together = [*before, *(name for name in after if name not in before)]
    differing = [name for name in together if before.get(name) != after.get(name)]
    if one.averaged != other.averaged:
        differing.append("averaged")
    return Check(
        step=one.step,
        loss_then=one.loss,
        loss_now=other.loss,
        differing=tuple(differing),
        drift=drift(one, other, start) if list(names) == list(other_names) else math.inf,
        pictures=one.pictures == other.pictures,
        batch=one.batch == other.batch,
    )


def drift(then: Mark, now: Mark, start: Mark) -> float:
    """How far the weights are from where they were, as a share of the way that they had come since step 0.

    For each tensor |now - then| / |then - start| over its kept numbers, and the median of these over the tensors: a
    single entry may go the other way for a gradient of the size of the rounding (Adam turns its sign into a whole
    step), half of the tensors do not. For step 0 the share of |then|.
    """
    shares = []
    for one, other, first in zip(then.numbers, now.numbers, start.numbers, strict=True):
        if not one:
            continue
        if len(one) != len(other):
            return math.inf
        a, b, c = np.array(one), np.array(other), np.array(first)
        gap, way = np.linalg.norm(b - a), np.linalg.norm(a - (c if then.step else 0))
        shares.append(float(gap / way) if way else math.inf if gap else 0.0)
    return float(np.median(shares)) if shares else 0.0


def receipt_facts(receipt: Receipt) -> dict[str, str]:
    """Label -> value, for people: what the run was made with."""
    life, data = receipt.lives[0], receipt.data
    packages = [f"{name} {number}" for name, number in life.versions.items() if name != "maskwright"]
    code = life.versions.get("maskwright", "") + (f", revision {life.revision[:12]}" if life.revision else "")
    if life.revision.endswith("+"):
        code += " with changes"
    facts = {
        "Begun": life.begun,
        "maskwright": f"{code}, files {life.source}",
        "Versions": ", ".join(packages),
        "System": life.hardware.get("system", ""),
        "CPU": f"{life.hardware.get('cpu', '')}, {life.hardware.get('cores', '')} cores",
        "GPU": life.hardware.get("gpu", ""),
        "Device": f"{life.device}, {life.precision}, {life.threads} thread{'' if life.threads == 1 else 's'}",
        "Seed": str(receipt.recipe.get("seed", "")),
        "Batch": f"{receipt.batch}, {receipt.plan[-1].micro_batch} at a time",
        "Steps planned": str(receipt.plan[-1].total_steps),
        "Data": f"{data.name}, fingerprint {data.fingerprint}",
        "Pictures": ", ".join(f"{count} {split}" for split, count in data.pictures.items()),
        "Recipe": f"hash {life.recipe}",
        "Weights kept after steps": ", ".join(str(mark.step) for mark in receipt.marks),
    }
    if receipt.budget is not None:
        facts["Budget"] = f"{receipt.budget:g} s"
    if receipt.init is not None:
        facts["Started from"] = receipt.init.path
    if len(receipt.lives) > 1:
        facts["Resumed at step"] = ", ".join(str(other.step) for other in receipt.lives[1:])
    return facts
