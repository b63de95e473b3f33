"""Every model x every check: what each network of `maskwright models` can do, as a table.

    python benchmarks/every_model.py --out docs/every-model.md

Each model is a small one of its kind (narrow, or on timm's smallest encoder), so that the whole table takes minutes,
not hours. Results are kept cell by cell in --results: what is interrupted goes on where it stopped, and --models
and --checks measure a part. A cell that nobody measured says so. tests/slow/test_every_model.py runs the same checks.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.export import Dim

from maskwright.cli.env import environment
from maskwright.config import (
    AugmentConfig,
    InputConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    Recipe,
    TrainConfig,
)
from maskwright.data.dataset import open_dataset
from maskwright.data.synthetic import KINDS, materialise
from maskwright.files import cache_folder, write_text
from maskwright.losses import Scalar, make_loss
from maskwright.metrics.contract import DEFAULT
from maskwright.metrics.counts import confusions
from maskwright.metrics.scores import summary
from maskwright.models import MODELS, build_model, output_channels, zoo
from maskwright.runfolder import RunFolder
from maskwright.tensors import Images, Labels, Logits, Target
from maskwright.training.loop import train
from maskwright.training.optim import learning_rate, make_optimiser
from maskwright.training.step import hard_labels, judging

# The models

NAMES = (*MODELS, *zoo.ARCHITECTURES, *zoo.SETRS)
"""Those of `maskwright models`, the zoo's without their encoders."""

SIZES: dict[str, dict[str, object]] = {"resnet34-unet": {}, "dual-unet": {"width": 4}}
"""What makes a model of ours small; UNET for the others."""
UNET: dict[str, object] = {"width": 8, "depth": 3}
ENCODERS = {
    "upernet": "test_convnext",
    "segformer": "mit_b0",
    "dpt": "test_vit",
    **dict.fromkeys(zoo.SETRS, "test_vit"),
}
"""One small encoder for each architecture of the zoo; RESNET for the others."""
RESNET = "test_resnet"


def small(name: str) -> ModelConfig:
    """A model of this kind that a test can afford."""
    if zoo.is_zoo(name):
        return ModelConfig(name=f"{name}:{ENCODERS.get(name, RESNET)}")
    return ModelConfig.model_validate({"name": name} | SIZES.get(name, UNET))


# The checks: config -> what stands in the cell; whatever they raise is the reason why the model cannot

ODD = (97, 131)
"""Height and width; no network halves them evenly."""
ENOUGH, STEPS = 0.95, 300
"""Dice that counts as knowing four pictures by heart, and the steps that it may take."""
COARSE = 0.1
"""Largest deviation of bf16 logits from fp32's (see `deviation`): 8 bits of mantissa through up to a hundred layers."""
CLOSE = {"loss": 1e-4, "logits": 1e-3, "gradient": 0.05}
"""Likewise of compiled code from eager: sums in another order. A single activation that rounding takes to the other
side of a ReLU moves the gradient of attention-unet by 1.4 %, in eager mode between float32 and float64 too."""


def overfits(config: ModelConfig) -> str:
    """Dice > ENOUGH on four generated pictures of 96 pixels, in evaluation, within STEPS steps of AdamW.

    Of 192 pixels for SETR: its tokens are 16 wide, and a shape's outline is no finer than they are.
    """
    drawn = KINDS["shapes"].draw(4, "train", 0)
    scale = 2 if config.name.partition(":")[0] in zoo.SETRS else 1
    images = torch.from_numpy(drawn.images).permute(0, 3, 1, 2).float() / 127.5 - 1
    images = images.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    labels = torch.from_numpy(drawn.masks).long()
    labels = labels.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    model = laid_out(build(config))
    optim = OptimConfig(learning_rate=2e-3)
    optimiser = make_optimiser(model, optim)
    dice = 0.0
    for step in range(1, STEPS + 1):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(optim, step / STEPS)
        optimiser.zero_grad()
        torch.autograd.backward(cost(config, model(images), labels))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 10 == 0:
            with judging(model):
                found = hard_labels(model(images))
            dice = summary(confusions(labels, found, 2), DEFAULT)["dice_image"]
            if dice > ENOUGH:
                return f"{dice:.2f}, {step}"
    raise AssertionError(f"Dice {dice:.2f} after {STEPS} steps")


def odd_size(config: ModelConfig) -> str:
    """Logits of 97 x 131 pictures have their size, and the last row and column, where padding begins, count."""
    model = build(config)
    images = torch.randn(2, 3, *ODD, requires_grad=True)
    learns(config, model, images, classes=2)
    assert images.grad is not None
    assert images.grad[..., -1, :].any(), "no gradient reaches the last row"
    assert images.grad[..., :, -1].any(), "no gradient reaches the last column"
    return "ok"


def bf16(config: ModelConfig) -> str:
    """Under autocast loss and gradients are finite, and logits deviate from fp32's by less than COARSE."""
    model = laid_out(build(config))
    images = torch.randn(2, 3, 64, 96)
    with judging(model):
        full = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images)
    moved = deviation(half, full)
    assert 0 < moved < COARSE, f"bf16 deviates by {moved:.3f}"
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(images)
    torch.autograd.backward(cost(config, outputs, random_labels(images, 2)))
    check_gradient(model)
    return f"{moved:.3f}"


def channels(config: ModelConfig) -> str:
    """Pictures of 1 and of 4 channels."""
    for count in (1, 4):
        learns(config, build(config, in_channels=count), torch.randn(2, count, 64, 96), classes=2)
    return "ok"


def classes(config: ModelConfig) -> str:
    """One foreground class in a sigmoid channel, 2 classes in softmax channels, 12 classes."""
    for outputs, count in (("sigmoid", 2), ("softmax", 2), ("softmax", 12)):
        of_kind = ModelConfig.model_validate(config.model_dump() | {"outputs": outputs})
        learns(of_kind, build(of_kind, classes=count), torch.randn(2, 3, 64, 96), classes=count)
    return "ok"


def compiles(config: ModelConfig) -> str:
    """One graph, made into machine code by inductor, as train.compile does it: the same logits and gradients in
    training, the same logits in evaluation."""
    eager = without_chance(laid_out(build(config)))
    compiled = copy.deepcopy(eager)
    torch.compiler.reset()  # a forward may be compiled a few times only, whatever is inside
    compiled.compile(fullgraph=True)
    images = torch.randn(2, 3, 64, 96)
    labels = random_labels(images, 2)
    costs = [cost(config, model(images), labels) for model in (eager, compiled)]
    torch.autograd.backward(costs)
    with torch.no_grad():
        logits = [model.eval()(images) for model in (eager, compiled)]
    moved = {
        "loss": deviation(costs[1], costs[0]),
        "logits": deviation(logits[1], logits[0]),
        "gradient": deviation(gradient(compiled), gradient(eager)),
    }
    assert all(moved[what] < CLOSE[what] for what in CLOSE), f"compiled deviates by {moved}"
    return "ok"


def exports(config: ModelConfig) -> str:
    """torch.export at one size gives the network's logits."""
    model, images = build(config).eval(), torch.randn(1, 3, *ODD)
    same_logits(torch.export.export(model, (images,)).module(), model, images)
    return "ok"


def exports_open(config: ModelConfig) -> str:
    """What torch.export makes from two pictures of 97 x 131 gives the network's logits for other numbers and sizes
    too, among them one that needs no padding."""
    model, images = build(config).eval(), torch.randn(2, 3, *ODD)
    sides = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    exported = torch.export.export(model, (images,), dynamic_shapes=(sides,)).module()
    for shape in ((1, *ODD), (3, 128, 160), (4, 70, 200)):
        same_logits(exported, model, torch.randn(shape[0], 3, *shape[1:]))
    return "ok"


def resumes(config: ModelConfig) -> str:
    """A run killed within an epoch goes on from its last save to the bits of one that was left alone: weights,
    moving average and moments, with MixUp on. fp32, on the CPU."""
    recipe = Recipe(
        model=config,
        input=InputConfig(size=(48, 64)),
        augment=AugmentConfig(mixup=0.4),
        optim=OptimConfig(ema=0.9),
        train=TrainConfig(epochs=2, batch=4, precision="fp32"),
    )
    dataset = open_dataset(materialise("shapes", train=12, validation=4, test=1))
    with tempfile.TemporaryDirectory() as temporary:
        whole, killed = (
            RunFolder.create(Path(temporary), "whole"),
            RunFolder.create(Path(temporary), "killed"),
        )
        train(recipe, dataset, whole, device="cpu")
        with suppress(Killed):
            train(recipe, dataset, killed, device="cpu", checkpoint_every=0.0, progress=KillsAt(step=5))
        assert steps_saved(killed) == 4, f"killed in step 5, saved at step {steps_saved(killed)}"
        train(recipe, dataset, killed, device="cpu", resume=True)
        one, other = last_state(whole), last_state(killed)
    assert one.keys() == other.keys()
    differing = [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]
    assert not differing, f"{len(differing)} of {len(one)} tensors differ, {differing[0]} first"
    return "ok"


class Check(NamedTuple):
    """A column of the table."""

    run: Callable[[ModelConfig], str]
    title: str
    legend: str


CHECKS: dict[str, Check] = {
    "overfit": Check(
        overfits,
        "overfits",
        f"Dice of four generated pictures learnt by heart, and the step at which it passed {ENOUGH}; 96 pixels wide, "
        "192 for SETR, whose tokens are 16 wide",
    ),
    "odd": Check(
        odd_size,
        "97 x 131",
        "masks as large as pictures of that size, gradients up to the last row and column",
    ),
    "bf16": Check(
        bf16,
        "bf16",
        f"how far autocast moves the logits, in units of their size (at most {COARSE}); gradients are finite",
    ),
    "channels": Check(channels, "1, 4 channels", "of the pictures, forward and backward"),
    "classes": Check(
        classes,
        "1, 2, 12 classes",
        "one foreground class in a sigmoid channel, 2 and 12 classes in softmax channels, forward and backward",
    ),
    "compile": Check(
        compiles,
        "compile",
        "`torch.compile` with `fullgraph=True`, inductor on the CPU: training has eager's loss and gradients, "
        "evaluation its logits",
    ),
    "export": Check(exports, "export", "`torch.export` at one size: the same logits"),
    "export-open": Check(
        exports_open,
        "any size",
        "`torch.export` with height, width and number of pictures left open: the same logits at three other shapes",
    ),
    "resume": Check(
        resumes,
        "resume",
        "a run killed in the middle of an epoch and resumed has the bits of one that was left alone",
    ),
}


class Limit(NamedTuple):
    """Why a model cannot pass a check."""

    reason: str
    says: str
    """A pattern found in what it raises; the test wants to see it, so that the list cannot outlive its reasons."""


LIMITS: dict[tuple[str, str], Limit] = {}
"""(model, check) -> why not. Whatever stands here must really fail."""


# What the checks share


def build(config: ModelConfig, in_channels: int = 3, classes: int = 2) -> nn.Module:
    """With the same weights each time, in training mode."""
    torch.manual_seed(0)
    return build_model(config, in_channels, classes).train()


def laid_out(model: nn.Module) -> nn.Module:
    """In memory as training has it."""
    return model.to(memory_format=torch.channels_last)


def without_chance(model: nn.Module) -> nn.Module:
    """Dropout and stochastic depth off: compiled code draws other numbers."""
    for module in model.modules():
        if "Drop" in type(module).__name__:
            module.eval()
    return model


def cost(config: ModelConfig, outputs: Logits | list[Logits], labels: Labels) -> Scalar:
    """The default loss."""
    loss = make_loss(LossConfig(), None, deep_supervision=config.deep_supervision)
    return loss(outputs, Target(labels))


def random_labels(images: Images, classes: int) -> Labels:
    return torch.randint(classes, (len(images), *images.shape[-2:]))


def learns(config: ModelConfig, model: nn.Module, images: Images, classes: int) -> None:
    """Logits of the right shape in evaluation; finite gradients in training."""
    with judging(model):
        logits = model(images)
    assert logits.shape == (len(images), output_channels(config, classes), *images.shape[-2:]), logits.shape
    torch.autograd.backward(cost(config, model(images), random_labels(images, classes)))
    check_gradient(model)


def gradient(model: nn.Module) -> Tensor:
    """Of all parameters, as one vector."""
    return torch.cat([tensor.grad.flatten() for tensor in model.parameters() if tensor.grad is not None])


def check_gradient(model: nn.Module) -> None:
    assert gradient(model).any(), "there is no gradient"
    assert gradient(model).isfinite().all(), "the gradient is not finite"


def deviation(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference in units of that of `expected`."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def same_logits(exported: nn.Module, model: nn.Module, images: Images) -> None:
    with torch.no_grad():
        torch.testing.assert_close(exported(images), model(images), rtol=1e-4, atol=1e-4)


class Killed(Exception):
    pass


@dataclass
class KillsAt:
    """A progress whose watcher pulls the plug: training ends in this step, before it can save."""

    step: int
    taken: int = 0

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        def advance(steps: int) -> None:
            self.taken += steps
            if self.taken >= self.step:
                raise Killed

        yield advance if what.startswith("Epoch") else lambda _: None

    def say(self, line: str) -> None:
        pass


def last_slot(run: RunFolder) -> Path:
    last = run.checkpoints / "last"
    return last / (last / "current").read_text()


def last_state(run: RunFolder) -> dict[str, Tensor]:
    """Every tensor of the training state, and the weights that were kept."""
    return load_file(last_slot(run) / "state.safetensors") | load_file(run.model / "model.safetensors")


def steps_saved(run: RunFolder) -> int:
    return int(json.loads((last_slot(run) / "state.json").read_text())["counters"]["step"])


# The table

FAULT = "**FAULT**"
REASONS = list(dict.fromkeys(limit.reason for limit in LIMITS.values()))
COMMAND = "python benchmarks/every_model.py --out docs/every-model.md"
INTRODUCTION = """\
What each network of `maskwright models` can do, tried on a small one of its kind with random weights: ours of
width 8 and depth 3 (`dual-unet` of width 4, `resnet34-unet` whole), those of the zoo on the encoder behind the colon.
`make test-all` tries all of it, `make test` a part. The table is what this prints:"""


@dataclass(frozen=True)
class Cell:
    """What one check found out about one model."""

    model: str
    check: str
    says: str
    """What the check returned, or what it raised."""
    passed: bool
    seconds: float
    day: str
    versions: str


def measure(name: str, check: str, versions: str) -> Cell:
    begun = time.monotonic()
    try:
        says, passed = CHECKS[check].run(small(name)), True
    except Exception as error:  # torch, timm and smp raise what they like
        says, passed = " ".join(f"{type(error).__name__}: {error}".split())[:2000], False
    return Cell(name, check, says, passed, time.monotonic() - begun, date.today().isoformat(), versions)


def read_cells(file: Path, versions: str) -> dict[tuple[str, str], Cell]:
    """Cells measured with these versions; of several the latest."""
    lines = file.read_text().splitlines() if file.is_file() else []
    cells = [Cell(**json.loads(line)) for line in lines]
    return {(cell.model, cell.check): cell for cell in cells if cell.versions == versions}


def verdict(cell: Cell | None, limit: Limit | None, reasons: Sequence[str]) -> str:
    """What stands in the table. A failure that no limit explains, or a success that it denies, is a FAULT."""
    if cell is None:
        return "not run"
    if cell.passed and limit is None:
        return cell.says
    if limit is not None and not cell.passed and re.search(limit.says, cell.says):
        return f"no ({reasons.index(limit.reason) + 1})"
    return FAULT


def page(cells: Mapping[tuple[str, str], Cell], versions: str) -> str:
    """The table as Markdown."""
    rows = [
        [f"`{small(name).name}`"]
        + [verdict(cells.get((name, check)), LIMITS.get((name, check)), REASONS) for check in CHECKS]
        for name in NAMES
    ]
    days = sorted({cell.day for cell in cells.values()})
    when = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "never"
    missing = len(NAMES) * len(CHECKS) - len(cells)
    parts = [
        "# Every model, every check\n",
        *wrapped(INTRODUCTION),
        f"\n```sh\n{COMMAND}\n```\n",
        f"Measured {when} with {versions}.\n",
        *table(["model", *(check.title for check in CHECKS.values())], rows),
        "",
    ]
    for check in CHECKS.values():
        parts += wrapped(f"- **{check.title}**: {check.legend}.", "  ")
    if missing:
        parts.append(f"- **not run**: nobody has measured it; {missing} of {len(NAMES) * len(CHECKS)} cells.")
    for number, reason in enumerate(REASONS, 1):
        parts += ["", *wrapped(f"({number}) {reason}.")]
    return "\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in (header, ["-" * width for width in widths], *rows)
    ]


def wrapped(text: str, indent: str = "") -> list[str]:
    """Lines that an editor shows whole."""
    return textwrap.wrap(text, 115, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def versions() -> str:
    facts = environment()
    return ", ".join(
        f"{name} {facts[name]}" for name in ("python", "torch", "timm", "segmentation-models-pytorch")
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="the page; without it the table is printed")
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES, metavar="MODEL")
    parser.add_argument("--checks", nargs="*", choices=CHECKS, default=list(CHECKS), metavar="CHECK")
    parser.add_argument("--results", type=Path, default=cache_folder() / "every-model.jsonl")
    parser.add_argument("--again", action="store_true", help="measure what was measured already, too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    made_with = versions()
    known = {} if options.again else read_cells(options.results, made_with)
    wanted = [(name, check) for check in options.checks for name in options.models]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["MASKWRIGHT_CACHE"] = cache
        for name, check in wanted:
            if (name, check) not in known:
                cell = measure(name, check, made_with)
                with options.results.open("a") as file:
                    file.write(json.dumps(asdict(cell)) + "\n")
                print(f"{name:<18} {check:<12} {cell.seconds:>6.1f} s   {cell.says[:100]}", flush=True)
    text = page(read_cells(options.results, made_with), made_with)
    if options.out:
        write_text(options.out, text)
    else:
        print(text)
    if FAULT in text:
        raise SystemExit(f"a model fails a check, or passes one, against LIMITS; {options.results} says how")


if __name__ == "__main__":
    main()
