"""The training state on disk: two slots and a pointer, so that a kill at any moment leaves a whole one.

    checkpoints/last/a/, checkpoints/last/b/   state.safetensors + state.json
    checkpoints/last/current                   the slot that counts; renamed into place after its files are synced
    checkpoints/best/epoch-0012.safetensors    weights of the best epoch that the current slot names

A save writes the best weights, then the slot that does not count, then the pointer. No pickle anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from maskwright.errors import RunError
from maskwright.files import sync_folder, write_bytes, write_text
from maskwright.training.step import Counters, TrainState

FORMAT = 1


def save_state(folder: Path, state: TrainState) -> None:
    """Save everything under `folder` (checkpoints/). Raises RunError on a full disk; the last save counts then."""
    best = _best_file(folder, state.counters.best_epoch)
    if state.best and not best.is_file():
        write_bytes(best, save(state.best))
    slot = "b" if _current(folder) == "a" else "a"
    last = folder / "last"
    last.joinpath(slot).mkdir(parents=True, exist_ok=True)
    tensors, numbers = _split(state)
    write_bytes(last / slot / "state.safetensors", save(tensors))
    write_text(last / slot / "state.json", json.dumps(numbers))
    sync_folder(last / slot)
    write_text(last / "current", slot)
    for other in folder.glob("best/*.safetensors"):
        if other != best:
            other.unlink()


def has_state(folder: Path) -> bool:
    return _current(folder) is not None


def saved_counters(folder: Path) -> Counters | None:
    """Those of the last save; None where there is none that can be read."""
    try:
        file = folder / "last" / (_current(folder) or "") / "state.json"
        return Counters(**json.loads(file.read_text(encoding="utf-8"))["counters"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_state(folder: Path, state: TrainState) -> None:
    """Put the saved state into `state`, which was built from the same recipe. Raises RunError."""
    slot = _current(folder)
    if slot is None:
        raise RunError(
            f"{folder} holds no training state", "the run was stopped before its first save; train anew"
        )
    try:
        tensors = load_file(folder / "last" / slot / "state.safetensors")
        numbers = json.loads((folder / "last" / slot / "state.json").read_text(encoding="utf-8"))
    except (OSError, SafetensorError, ValueError) as error:
        raise RunError(
            f"the training state in {folder / 'last' / slot} is damaged: {error}", "train anew"
        ) from error
    if numbers["format"] != FORMAT:
        raise RunError(f"{folder} was written by another version (format {numbers['format']})", "train anew")
    try:
        state.model.load_state_dict(_under(tensors, "model."))
        if state.averaged is not None:
            state.averaged.load_state_dict(_under(tensors, "averaged."))
        _load_optimiser(state.optimiser, tensors, numbers["optimiser"])
        if state.scaler is not None:
            state.scaler.load_state_dict(numbers["scaler"])
        state.counters = Counters(**numbers["counters"])
        best = _best_file(folder, state.counters.best_epoch)
        state.best = load_file(best) if state.counters.best_epoch else {}
    except (RuntimeError, KeyError, TypeError, OSError) as error:
        raise RunError(
            f"the training state in {folder} does not fit its recipe.yaml: {str(error).splitlines()[0]}",
            "resume with the unchanged recipe, or train anew",
        ) from error


def _current(folder: Path) -> str | None:
    pointer = folder / "last" / "current"
    return pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else None


def _best_file(folder: Path, epoch: int) -> Path:
    return folder / "best" / f"epoch-{epoch:04d}.safetensors"


def _split(state: TrainState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name for safetensors, the rest for JSON."""
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    if state.averaged is not None:
        tensors |= {f"averaged.{name}": value for name, value in state.averaged.state_dict().items()}
    optimiser = state.optimiser.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, entry in optimiser["state"].items():
        for key, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{key}"] = value
            else:
                scalars.setdefault(str(index), {})[key] = value
    numbers = {
        "format": FORMAT,
        "counters": asdict(state.counters),
        "optimiser": scalars,
        "scaler": state.scaler.state_dict() if state.scaler is not None else None,
    }
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, numbers


def _load_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], scalars: Mapping[str, dict[str, Any]]
) -> None:
    entries: dict[int, dict[str, Any]] = {int(index): dict(entry) for index, entry in scalars.items()}
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for name, value in _under(tensors, "optimiser.").items():
        index, _, key = name.partition(".")
        like = parameters[int(index)]
        # Fused kernels walk through memory: a moment must lie as its parameter does (channels last).
        laid = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        entries.setdefault(int(index), {})[key] = laid
    optimiser.load_state_dict({"state": entries, "param_groups": optimiser.state_dict()["param_groups"]})


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
