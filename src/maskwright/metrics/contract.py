"""MetricContract: what counts, what is ignored and how it is averaged. Every number carries its hash.

Two numbers can be compared when their contracts are equal, and only then: the same masks give other figures
when the background joins the mean, when empty pictures count as perfect, or when scores are taken at network
size.
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError

from maskwright.config import Part, Size, suggest
from maskwright.errors import ConfigError
from maskwright.tensors import IGNORE

ClassId = Annotated[int, Field(ge=0, le=254)]
ClassIds = Annotated[tuple[ClassId, ...], AfterValidator(lambda ids: tuple(sorted(set(ids))))]
"""Sorted, each once: the order in which they were written means nothing and must not change the hash."""
Policy = Literal["skip", "zero", "one"]


class MetricContract(Part):
    """All of it decides some number, so all of it is hashed."""

    version: Literal[1] = 1
    """Of these definitions; a new one is another contract."""
    ignore: Annotated[int, Field(ge=0, le=255)] = IGNORE
    """Truth pixels of this value count nowhere."""
    foreground: Annotated[ClassIds, Field(min_length=1)] | None = None
    """The classes of dice_* and iou_*. None: all but class 0, written out by `resolved`."""
    drop_truth: ClassIds = ()
    """Pixels whose truth is one of these count nowhere, whatever was predicted there."""
    absent: Policy = "skip"
    """A class in neither truth nor prediction (of a picture for *_image, of all pictures otherwise): left out
    of the mean over classes, or counted as 0 or 1."""
    empty: Policy = "skip"
    """A picture with no foreground in truth and prediction: left out of *_image, or counted as 0 or 1.
    It comes before `absent`, which speaks of pictures that hold some other foreground class."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Two classes: class 1 is predicted where its probability is greater than this, not where it is equal."""
    resolution: Literal["native"] | Size = "native"
    """Where pixels are counted: at each picture's own size, or with both masks brought to H, W by nearest
    pixel."""
    boundary: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Width of the band of boundary_iou, as a share of the picture's diagonal (Cheng et al. 2021)."""
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    """Pixels by which a surface may be off in nsd (Nikolov et al. 2018)."""

    def resolved(self, classes: int) -> Self:
        """The same contract with its foreground written out for `classes` classes; equal meanings get equal
        hashes.

        Raises ConfigError where the contract cannot mean anything for so many classes.
        """
        if classes < 2:
            raise ConfigError(f"{classes} class cannot be scored", "write the background out as a class, too")
        foreground = self.foreground or tuple(range(1, classes))
        for name, ids in (("foreground", foreground), ("drop_truth", self.drop_truth)):
            if ids and ids[-1] >= classes:
                raise ConfigError(
                    f"the contract's {name} names class {ids[-1]}", f"the classes end at {classes - 1}"
                )
        if self.ignore < classes:
            raise ConfigError(
                f"the contract ignores {self.ignore}, which is a class", f"use drop_truth: [{self.ignore}]"
            )
        if classes > 2 and self.threshold != 0.5:
            raise ConfigError(
                f"the contract's threshold {self.threshold} means nothing for {classes} classes",
                "the likeliest class is predicted; leave the threshold out",
            )
        return self.model_copy(update={"foreground": foreground})

    @property
    def hash(self) -> str:
        """The first 12 hex digits of SHA-256 over the JSON with sorted keys and no spaces.

        Numbers carry the hash of the resolved contract.
        """
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


DEFAULT = MetricContract()
"""Ignore 255, absent classes and empty pictures skipped, threshold 0.5, native size."""


_CONTRACTS = resources.files("maskwright") / "metrics" / "contracts"


def contract_names() -> list[str]:
    """The contracts inside the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _CONTRACTS.iterdir())


def read_contract(name_or_file: str | Path) -> MetricContract:
    """A contract by name, from YAML or JSON, or that of a scores.json; what is not said is the default.

    Raises ConfigError.
    """
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml", ".json") and not path.is_file():
        if str(name_or_file) not in contract_names():  # and so no path that leads out of the package
            raise ConfigError(
                f"there is no contract {str(name_or_file)!r}", suggest(str(name_or_file), contract_names())
            )
        path = Path(str(_CONTRACTS / f"{name_or_file}.yaml"))
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        text = path.read_text(encoding="utf-8")
        values = (json.loads if kind == "JSON" else yaml.safe_load)(text) or {}
    except OSError as error:
        raise ConfigError(
            f"contract {path} cannot be read: {error.strerror}", "give a YAML or JSON file, or a name"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        example = '{"empty": "one"}' if kind == "JSON" else "lines like `empty: one`"
        raise ConfigError(f"contract {path} is not {kind}", f"write {example}") from error
    if isinstance(values, dict) and "contract_hash" in values:  # of scores that others are to be held against
        values = values.get("contract")
    known = list(MetricContract.model_fields)
    if not isinstance(values, dict):
        raise ConfigError(f"contract {path} is not a mapping", f"known keys are: {', '.join(known)}")
    for key in values:
        if key not in known:
            raise ConfigError(f"contract {path} has no key {str(key)!r}", suggest(str(key), known))
    try:
        return MetricContract.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise ConfigError(
            f"{key}={values[key]} in contract {path}: {first['msg']}",
            f"the default is {getattr(DEFAULT, key)}",
        ) from error
