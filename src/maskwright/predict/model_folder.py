"""The model folder: weights as safetensors, and config.json with everything else that a prediction needs.

It may come from a stranger: nothing in it is unpickled, and the network that its config asks for gets memory only
after its tensors were found to have the shapes of those in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from maskwright.config import InputConfig, ModelConfig, Part, Share
from maskwright.errors import RunError, UserError
from maskwright.files import write_bytes, write_text
from maskwright.folds import check_no_folds
from maskwright.metrics.calibration import COLDEST, HOTTEST
from maskwright.models import build_model
from maskwright.predict.hub import CONFIG, LARGEST, WEIGHTS, HubModel, fetch, is_hub
from maskwright.predict.preprocess import Preprocess
from maskwright.versioned import read_versioned

AGAIN = "copy the model folder again"

LARGEST_SIDE = 1 << 14
MOST_FILTERS = 1 << 12

Byte = Annotated[int, Field(ge=0, le=255)]
PRINTED = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters: on a terminal they would move the cursor, colour, or worse."""
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTED)]


class Seen(Part):
    """What training showed the network, where that matters to pictures of another size."""

    size: tuple[PositiveInt, PositiveInt]
    """Median height and width of the training pictures, in their own pixels."""
    tiles: bool = False
    """They were tiles of larger pictures."""
    bands: tuple[PositiveInt, ...] = ()
    """Of rasters, as `dataset.yaml` chose them; empty where there were none."""
    window: tuple[FiniteFloat, FiniteFloat] | None = None
    """Numbers of rasters or of pages of stacks that were black and white."""


class ModelSpec(Part):
    """What config.json says: everything needed to turn a picture into a mask, except the weights."""

    format: Literal[1] = 1
    model: ModelConfig
    input: InputConfig
    """`channels` is resolved: 1, 3 or 4."""
    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=255)]
    """Position = class id."""
    colours: tuple[tuple[Byte, Byte, Byte], ...]
    mean: tuple[FiniteFloat, ...]
    """Per channel over the training pictures in [0, 1]."""
    deviation: tuple[Annotated[FiniteFloat, Field(ge=0)], ...]
    threshold: Share = 0.5
    """Of two classes the second wins above this probability."""
    temperature: Annotated[FiniteFloat, Field(ge=COLDEST, le=HOTTEST)] = 1.0
    """Fitted on validation pictures: see `Prediction.calibrated`. No mask depends on it."""
    seen: Seen | None = None
    """None in the folders of earlier versions."""
    fingerprint: Annotated[str, Field(max_length=200, pattern=PRINTED)] = ""
    """Of the data set it was trained on."""
    epoch: NonNegativeInt = 0
    """Whose weights these are."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if len(self.colours) != len(self.classes):
            raise ValueError(f"{len(self.colours)} colours for {len(self.classes)} classes")
        if self.input.channels == "auto" or len(self.mean) != self.input.channels:
            raise ValueError(f"{len(self.mean)} means for {self.input.channels} channels")
        if len(self.deviation) != len(self.mean):
            raise ValueError(f"{len(self.deviation)} deviations for {len(self.mean)} means")
        if max(self.input.size) > LARGEST_SIDE:
            raise ValueError(f"input.size is over {LARGEST_SIDE}")
        halvings = 4 if self.model.name == "dual-unet" else self.model.depth
        if self.model.width << halvings > MOST_FILTERS:
            raise ValueError(f"more than {MOST_FILTERS} filters in a layer")
        return self

    @property
    def channels(self) -> int:
        """Of the pictures the network sees."""
        return len(self.mean)


def build_from_spec(spec: ModelSpec) -> nn.Module:
    """The network without its trained weights; fetches nothing and leaves the random state as it was."""
    with torch.random.fork_rng(devices=[]):
        return build_model(
            spec.model.model_copy(update={"encoder_weights": "none"}),
            in_channels=spec.channels,
            classes=len(spec.classes),
        )


def preprocess_from_spec(spec: ModelSpec) -> Preprocess:
    """The input side that belongs to the network."""
    return Preprocess(spec.input.size, spec.input.fit, spec.input.normalise, spec.mean, spec.deviation)


def save_model(folder: Path, spec: ModelSpec, weights: Mapping[str, Tensor]) -> None:
    """Write `folder/model.safetensors` and `folder/config.json`, each whole or not there. Raises RunError."""
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    write_bytes(folder / WEIGHTS, content)
    save_spec(folder, spec)


def save_spec(folder: Path, spec: ModelSpec) -> None:
    """Write `folder/config.json`, whole or not at all. Raises RunError."""
    write_text(folder / CONFIG, spec.model_dump_json(indent=2) + "\n")


def find_model(path_or_run: str | Path) -> Path:
    """The model folder of a model folder, a run folder, a name under `runs/`, or `hf:user/name[@revision]`, which is
    fetched (see `hub.fetch`). Raises RunError."""
    if is_hub(path_or_run):
        model = HubModel.parse(str(path_or_run))
        return fetch(model.repo, model.revision)
    for folder in (Path(path_or_run), Path("runs") / path_or_run):
        for candidate in (folder, folder / "model"):
            if (candidate / CONFIG).is_file():
                return candidate
        if (folder / "recipe.yaml").is_file():
            raise RunError(
                f"run {folder} has no model yet",
                f"wait for its first epoch, or `maskwright train --resume {folder}`",
            )
    check_no_folds(path_or_run)
    if Path(path_or_run).exists():
        raise RunError(
            f"{path_or_run} is neither a run nor a model folder: no {CONFIG} in it",
            "`maskwright runs` lists runs",
        )
    raise RunError(f"there is no run or model {str(path_or_run)!r}", "`maskwright runs` lists runs")


def load_spec(folder: Path) -> ModelSpec:
    """Read and check `folder/config.json`. Raises RunError."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > LARGEST[CONFIG]:
            raise RunError(f"{path} is larger than a megabyte", "this is not a config.json of ours")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}", "is this a model folder?") from error
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}", AGAIN) from error
    return read_versioned(ModelSpec, text, str(path), AGAIN)


def load_model(folder: Path) -> tuple[ModelSpec, nn.Module]:
    """The spec and the trained network: CPU, float32, eval mode. Raises RunError that names the file."""
    from safetensors.torch import load_file

    spec, path = load_spec(folder), folder / WEIGHTS
    if not path.is_file():
        raise RunError(f"{path} is missing", "copy the whole model folder")
    try:
        with WithoutMemory():
            shadow = build_from_spec(spec)
        _check_fit(_shapes(shadow.state_dict()), _shapes_in(path), spec, path)
        weights = load_file(path)
        network = build_from_spec(spec)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is damaged or cut short: {error}", "copy it again") from error
    except RunError:
        raise
    except UserError as error:
        raise RunError(f"{folder / CONFIG}: {error.problem}", error.hint) from error
    network.load_state_dict(weights)
    return spec, network.float().eval()


class WithoutMemory(TorchFunctionMode):
    """Within, what torch makes to be filled later has a shape and no memory; tables that are counted out (`linspace`,
    `arange`, `tensor`) stay real, because some encoders read theirs while they are made. Under
    `torch.device("meta")` those cannot be built.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in DRAWN or getattr(func, "__module__", "") == "torch.nn.init":
            tensor = args[0] if args else (kwargs or {})["tensor"]
            if tensor.is_meta:  # torch would fill it by a detour that loads its compiler: 200 MB, seconds
                return tensor
        where = {"device": "meta"} if func in FILLED_LATER else {}
        return func(*args, **{**(kwargs or {}), **where})


DRAWN = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.bernoulli_, torch.Tensor.exponential_}
FILLED_LATER = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """From the header of a safetensors file; the tensors are not read."""
    with safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _check_fit(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], spec: ModelSpec, path: Path
) -> None:
    """Raises RunError with the first tensor that differs in name or shape."""
    wrong = sorted(
        name for name in wanted.keys() | found.keys() if _shape(wanted, name) != _shape(found, name)
    )
    if wrong:
        raise RunError(
            f"{path} does not fit its {CONFIG}: {wrong[0]} is {_shape(found, wrong[0])} "
            f"where {spec.model.name} has {_shape(wanted, wrong[0])} ({len(wrong)} such tensors)",
            "weights and config.json must come from the same model",
        )


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    if name not in shapes:
        return "missing"
    return " x ".join(map(str, shapes[name])) or "a number"
