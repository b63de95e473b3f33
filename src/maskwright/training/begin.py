"""How a run begins: the parts that stay, and the state before the first step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from maskwright.config import Recipe
from maskwright.data.dataset import Dataset
from maskwright.data.store import Store
from maskwright.errors import DataError
from maskwright.losses import class_weights, make_loss
from maskwright.models import build_model
from maskwright.models.heads import add_heads
from maskwright.predict.model_folder import ModelSpec, load_model
from maskwright.predict.preprocess import Preprocess
from maskwright.progress import Progress
from maskwright.training.optim import make_optimiser
from maskwright.training.seen import seen_of
from maskwright.training.step import Counters, Machinery, TrainState

if TYPE_CHECKING:
    from accelerate import Accelerator


def assemble(
    recipe: Recipe, dataset: Dataset, store: Store, accelerator: Accelerator
) -> tuple[Machinery, ModelSpec]:
    """The constant parts, and what a model folder must say to be usable without the recipe."""
    spec = ModelSpec(
        model=recipe.model,
        input=recipe.input.model_copy(update={"channels": store.channels}),
        classes=dataset.classes.names,
        colours=dataset.classes.colours,
        mean=tuple(store.mean.tolist()),
        deviation=tuple(store.deviation.tolist()),
        seen=seen_of(dataset),
        fingerprint=dataset.fingerprint(),
    )
    preprocess = Preprocess(
        recipe.input.size, recipe.input.fit, recipe.input.normalise, spec.mean, spec.deviation
    ).to(accelerator.device)
    weights = class_weights(recipe.loss, store.class_pixels)
    loss = make_loss(
        recipe.loss,
        None if weights is None else weights.to(accelerator.device),
        deep_supervision=recipe.model.deep_supervision,
        targets=store.targets,
    )
    for name in recipe.loss.targets:
        if not store.targets[name].pixels:
            raise DataError(
                f"no training picture of {dataset.name} knows a value of the target {name}",
                "0 in whole numbers and NaN in others mean that nothing is known",
            )
    return Machinery(recipe, store, preprocess, loss, accelerator), spec


def first_state(machinery: Machinery, spec: ModelSpec, init: Path | None, progress: Progress) -> TrainState:
    """Weights drawn from the seed (or taken from `init`), a fresh optimiser, counters at zero."""
    recipe, accelerator = machinery.recipe, machinery.accelerator
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model, in_channels=machinery.store.channels, classes=len(spec.classes))
    add_heads(model, len(recipe.loss.heads), recipe.model.name)
    if init is not None:
        old = load_model(init)[1].state_dict()
        new = model.state_dict()
        fitting = {
            name: value for name, value in old.items() if name in new and value.shape == new[name].shape
        }
        if not fitting:
            raise DataError(
                f"{init} shares no weights with {recipe.model.name}", "use the model.* keys of that run"
            )
        model.load_state_dict(fitting, strict=False)
        left = [name for name in new if name not in fitting]
        progress.say(
            f"{len(fitting)} of {len(new)} tensors come from {init}"
            + (f"; new: {', '.join(left[:4])}" if left else "")
        )
    model = model.to(machinery.device).to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(model).eval().requires_grad_(False) if recipe.optim.ema else None
    optimiser = make_optimiser(model, recipe.optim)
    if recipe.train.compile:
        model.compile()  # in place: names in the state stay as they are
    model, optimiser = accelerator.prepare(model, optimiser)
    counters = Counters(strength=0.5 if recipe.augment.strength == "adaptive" else 1.0)
    return TrainState(model.train(), optimiser, averaged, accelerator.scaler, counters, {})
