"""The loop as its users meet it: it learns, keeps its budget, stops, resumes, fine-tunes, and says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maskwright.config import make_recipe
from maskwright.data.dataset import open_dataset
from maskwright.errors import RunError, UserError
from maskwright.runfolder import RunFolder
from maskwright.training.loop import Trained, train
from maskwright.training.step import epoch_order

SMALL = {
    "model.width": 8,
    "model.depth": 2,
    "input.size": 48,
    "train.batch": 8,
    "train.epochs": 4,
    "train.precision": "fp32",
    "optim.learning_rate": 5e-3,
}


def run(data: Path, folder: Path, changes: Mapping[str, object] | None = None, **options: object) -> Trained:
    recipe = make_recipe({**SMALL, **(changes or {})})
    folder.mkdir(parents=True, exist_ok=True)
    return train(recipe, open_dataset(data), RunFolder(folder), device="cpu", **options)  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_it_learns_and_leaves_a_whole_run_folder(discs: Path, tmp_path: Path) -> None:
    trained = run(discs, tmp_path, {"train.epochs": 24})
    assert trained.best_value > 0.95
    assert trained.steps == 24 * 5
    rows = RunFolder(tmp_path).read_metrics()
    assert [row["epoch"] for row in rows] == list(range(1, 25))
    assert max(row["val_dice_image"] for row in rows) == trained.best_value
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] / 2
    names = {path.name for path in tmp_path.iterdir()}
    assert {"metrics.csv", "model", "checkpoints", "log.txt", "batch.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(discs: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(
            discs,
            tmp_path / name,
            {"seed": seed, "train.epochs": 1, "augment.rotate": 10, "augment.noise": 0.1},
        )
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_every_picture_once_an_epoch_and_copies_beside_their_originals() -> None:
    rows = np.array([3, 5, 9])
    plain, _ = epoch_order(rows, 0, epoch=4, seed=1)
    assert sorted(plain) == [3, 5, 9]
    seen, copies = epoch_order(rows, 2, epoch=4, seed=1)
    assert sorted(zip(seen.tolist(), copies.tolist(), strict=True)) == [
        (r, c) for r in (3, 5, 9) for c in range(3)
    ]
    many = np.arange(100)
    assert not np.array_equal(epoch_order(many, 0, 0, seed=1)[0], epoch_order(many, 0, 1, seed=1)[0])


def test_gradients_of_micro_batches_add_up(discs: Path, tmp_path: Path) -> None:
    """Without batch norm and batch-wide losses, 2 batches of 4 are one batch of 8."""
    plain = {
        "model.norm": "none",
        "loss.terms": "ce",
        "train.epochs": 1,
        "augment.flip": False,
        "optim.clip": 0,
    }
    run(discs, tmp_path / "whole", {**plain, "train.batch": 8})
    run(discs, tmp_path / "parts", {**plain, "train.batch": 4, "train.accumulate": 2})
    for name, value in weights(tmp_path / "whole").items():
        torch.testing.assert_close(value, weights(tmp_path / "parts")[name], rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("clock")
def test_a_budget_is_kept_and_the_rate_ends_low(discs: Path, tmp_path: Path) -> None:
    """1 s before the first step, then 1.4 s an epoch of 5 steps: 7 epochs end after 10.8 s, and 8 after 12.2."""
    trained = run(discs, tmp_path, {"train.epochs": 100_000}, budget=12.0)
    assert (trained.epochs, trained.steps) == (7, 35)
    assert trained.seconds == pytest.approx(10.8)
    rows = RunFolder(tmp_path).read_metrics()
    assert rows[-1]["seconds"] == pytest.approx(10.8)
    assert rows[-1]["learning_rate"] < 0.1 * 5e-3


def test_patience_ends_the_run_and_the_best_weights_are_kept(discs: Path, tmp_path: Path) -> None:
    trained = run(discs, tmp_path, {"train.patience": 2, "train.epochs": 60, "optim.learning_rate": 0.02})
    assert trained.epochs < 60
    rows = RunFolder(tmp_path).read_metrics()
    assert trained.best_epoch == trained.epochs - 2
    assert max(rows, key=lambda row: row["val_dice_image"])["epoch"] == trained.best_epoch


def test_a_plateau_lowers_the_rate(discs: Path, tmp_path: Path) -> None:
    run(
        discs,
        tmp_path,
        {
            "optim.schedule": "plateau",
            "optim.plateau_patience": 0,
            "optim.learning_rate": 0.05,
            "train.epochs": 10,
        },
    )
    rates = [row["learning_rate"] for row in RunFolder(tmp_path).read_metrics()]
    losses = [row["val_loss"] for row in RunFolder(tmp_path).read_metrics()]
    # Row n was trained with the rate after the losses before it: one halving for each epoch without a new best.
    falls = [
        sum(loss >= min(losses[:i]) for i, loss in enumerate(losses[:n]) if i) for n in range(len(losses))
    ]
    assert rates[1:] == pytest.approx([0.05 * 0.5**fall for fall in falls[1:]])
    assert falls[-1] > 0


RESUMED: dict[str, dict[str, object]] = {
    "plain": {"model.dropout": 0.2},
    "with parts, levels and a ramp": {
        "model.name": "aspp-gate-unet",
        "model.deep_supervision": "fused",
        "loss.terms": "ce + boundary(ramp=1)",
        "loss.levels": ["ce", "0.5*dice + 0.5*focal"],
    },
    "of the zoo, its encoder slower": {
        "model.name": "fpn:resnet18",
        "model.width": 32,
        "model.depth": 4,
        "optim.encoder_rate": 0.5,
        "optim.layer_decay": 0.8,
        "model.stochastic_depth": 0.5,
    },
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if "zoo" in kind else ()) for kind in RESUMED]
)
def test_interrupted_and_resumed_is_the_uninterrupted_run(discs: Path, tmp_path: Path, kind: str) -> None:
    """Ctrl-C in the middle, a real signal; then resume. The random kill test does it twenty times, harder."""
    changes = {"optim.ema": 0.9, "augment.mixup": 0.4, "train.epochs": 6, **RESUMED[kind]}
    run(discs, tmp_path / "whole", changes)
    script = (
        "import os, signal, sys, torch; torch.set_num_threads(1); sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; import test_loop\n"
        "def track(row):\n"
        "    if row['epoch'] == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        f"test_loop.run(Path(sys.argv[2]), Path(sys.argv[3]), {changes!r}, track=track)\n"
    )
    part = tmp_path / "part"
    words = [sys.executable, "-c", script, str(Path(__file__).parent), str(discs), str(part)]
    stopped = subprocess.run(words, stderr=subprocess.PIPE, text=True)
    assert "KeyboardInterrupt" in stopped.stderr
    assert [row["epoch"] for row in RunFolder(part).read_metrics()] == [1, 2]
    assert (part / "checkpoints").is_dir()
    run(discs, part, changes, resume=True)
    assert same(weights(tmp_path / "whole"), weights(part))


def test_fine_tuning_starts_from_the_given_weights(discs: Path, tmp_path: Path) -> None:
    first = run(discs, tmp_path / "first", {"train.epochs": 6})
    tuned = run(
        discs,
        tmp_path / "tuned",
        {"train.epochs": 1, "optim.learning_rate": 1e-6},
        init=tmp_path / "first" / "model",
    )
    assert tuned.best_value == pytest.approx(first.best_value, abs=0.02)
    assert "tensors come from" in (tmp_path / "tuned" / "log.txt").read_text()


def test_weights_of_another_network_are_refused(discs: Path, tmp_path: Path) -> None:
    run(discs, tmp_path / "first", {"train.epochs": 1})
    with pytest.raises(UserError, match="shares no weights"):
        run(discs, tmp_path / "other", {"model.name": "resnet34-unet"}, init=tmp_path / "first" / "model")


def test_an_exploding_loss_is_named(discs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the loss became (nan|inf) at step \d+; lower optim.learning_rate"):
        run(
            discs,
            tmp_path,
            {
                "optim.name": "sgd",
                "optim.learning_rate": 1e30,
                "optim.warmup": 0,
                "optim.clip": 0,
                "model.norm": "none",
            },
        )


WITHIN_MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
torch.set_num_threads(1)
import test_loop
from maskwright.training import loop

data, folder, limit = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
kept = loop.train_step
def train_step(state, machinery, rows, copies):
    before = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if limit and state.counters.step == 0:
        resource.setrlimit(resource.RLIMIT_AS, (before + limit,) * 2)
    kept(state, machinery, rows, copies)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmPeak"))
    print(state.counters.micro_batch, int(peak.split()[1]) * 1024 - before)
loop.train_step = train_step
large = {"train.batch": 40, "train.epochs": 1, "input.size": 192, "model.width": 16}
test_loop.run(data, folder, large)
"""


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit on address space")
def test_too_little_memory_is_answered_by_micro_batches(discs: Path, tmp_path: Path) -> None:
    """The operating system really refuses the memory; the step is done in smaller parts and the run goes on."""

    def first_step(folder: str, limit: int) -> tuple[int, int]:
        """(micro-batch, bytes it grew by) of a process that may grow by `limit` bytes, 0 being no limit."""
        arguments = [Path(__file__).parent, discs, tmp_path / folder, limit]
        done = subprocess.run(
            [sys.executable, "-c", WITHIN_MEMORY, *map(str, arguments)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        micro_batch, grown = done.stdout.split()[:2]
        return int(micro_batch), int(grown)

    whole, needed = first_step("free", 0)  # what a step needs differs between processors
    assert whole == 40
    part, _ = first_step("limited", needed * 7 // 10)
    assert part < 40
    assert (tmp_path / "limited" / "model" / "model.safetensors").is_file()
