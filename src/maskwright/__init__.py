"""maskwright makes masks: from a folder of images and masks to a trained and evaluated segmentation model.

>>> import maskwright as mw
>>> run = mw.train("unet", data="data/pets", overrides={"train.epochs": 20})
>>> run.evaluate(split="test")["dice_image"].value
>>> run.predictor()(image).mask

`import maskwright` is cheap: torch is loaded with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskwright.api import CrossValidation, Run, RunEnsemble, cross_validate, demo, open_runs, train
    from maskwright.config import Recipe, load_recipe
    from maskwright.contest import compare_runs
    from maskwright.data.dataset import Dataset, open_dataset
    from maskwright.errors import UserError
    from maskwright.evaluation import evaluate
    from maskwright.metrics.contract import MetricContract
    from maskwright.metrics.scores import Scores
    from maskwright.models import build_model
    from maskwright.predict.ensemble import Ensemble
    from maskwright.predict.exported import Exported
    from maskwright.predict.predictor import Predictor

    __version__: str

_HOME = {
    "CrossValidation": "maskwright.api",
    "Dataset": "maskwright.data.dataset",
    "Ensemble": "maskwright.predict.ensemble",
    "Exported": "maskwright.predict.exported",
    "MetricContract": "maskwright.metrics.contract",
    "Predictor": "maskwright.predict.predictor",
    "Recipe": "maskwright.config",
    "Run": "maskwright.api",
    "RunEnsemble": "maskwright.api",
    "Scores": "maskwright.metrics.scores",
    "Tiled": "maskwright.predict.tiled",
    "UserError": "maskwright.errors",
    "build_model": "maskwright.models",
    "compare_runs": "maskwright.contest",
    "cross_validate": "maskwright.api",
    "demo": "maskwright.api",
    "evaluate": "maskwright.evaluation",
    "load_recipe": "maskwright.config",
    "open_dataset": "maskwright.data.dataset",
    "open_runs": "maskwright.api",
    "train": "maskwright.api",
}

__all__ = [  # noqa: RUF022 - in the order in which a reader meets them
    "train",
    "cross_validate",
    "demo",
    "Run",
    "RunEnsemble",
    "open_runs",
    "CrossValidation",
    "Predictor",
    "Ensemble",
    "Exported",
    "Tiled",
    "build_model",
    "evaluate",
    "compare_runs",
    "Scores",
    "MetricContract",
    "open_dataset",
    "Dataset",
    "load_recipe",
    "Recipe",
    "UserError",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("maskwright")
    if name not in _HOME:
        raise AttributeError(f"module 'maskwright' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
