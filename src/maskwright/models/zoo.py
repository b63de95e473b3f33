"""Weights that others trained. Nothing here is imported or fetched before somebody asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maskwright.errors import ConfigError, UserError
from maskwright.files import cache_folder, write_atomic
from maskwright.models.resnet34_unet import ResNet34

REPOSITORY = "timm/resnet34.a1_in1k"
"""ImageNet-1k, recipe A1 of Wightman et al. 2021; Apache-2.0."""
PATIENCE = 3.0
"""Seconds that the hub gets for its first answer."""


def placed_file() -> Path:
    """Where ImageNet weights of the encoder are looked for, and kept once they were fetched."""
    return cache_folder() / "weights" / "resnet34.safetensors"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises ConfigError."""
    try:
        return load_file(path)
    except OSError as error:
        raise ConfigError(
            f"encoder weights {path} cannot be read: {error.strerror or error}",
            "model.encoder_weights is none, imagenet or a safetensors file",
        ) from error
    except SafetensorError as error:
        raise ConfigError(
            f"encoder weights {path} are not a safetensors file",
            "save them with safetensors.torch.save_file; pickles (.pth) are never read",
        ) from error


def _fetch() -> dict[str, Tensor]:
    """From the hub's own cache on this machine, or from the hub. Raises UserError within seconds."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    known = try_to_load_from_cache(REPOSITORY, "model.safetensors")
    if isinstance(known, str):
        return read_weights(Path(known))
    try:
        # One question with one answer: the download itself would knock for half a minute at a closed door.
        get_hf_file_metadata(hf_hub_url(REPOSITORY, "model.safetensors"), timeout=PATIENCE)
        return read_weights(Path(hf_hub_download(REPOSITORY, "model.safetensors")))
    except UserError:
        raise
    except Exception as error:  # whatever the hub's HTTP library raises, the answer is the same
        raise UserError(
            f"the ImageNet weights {REPOSITORY} cannot be fetched ({type(error).__name__})",
            f"place its model.safetensors at {placed_file()}, or train with model.encoder_weights=none",
        ) from error


def imagenet_weights() -> dict[str, Tensor]:
    """The placed file, or else fetched once and kept there. Raises UserError, ConfigError."""
    path = placed_file()
    if not path.is_file():
        weights = _fetch()
        write_atomic(path, lambda beside: save_file(weights, beside))
    return read_weights(path)


def adapt_first_conv(weight: Tensor, in_channels: int) -> Tensor:
    """A first convolution (O, C, kh, kw) made to see `in_channels`.

    One channel: the sum over the channels, so that a grey picture gives what its grey RGB copy would. Any
    other number: the channels in turn, scaled by C / in_channels, so that the answers keep their size.
    """
    channels = weight.shape[1]
    if in_channels == channels:
        return weight
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turns = [channel % channels for channel in range(in_channels)]
    return weight[:, turns] * (channels / in_channels)


def load_encoder(model: nn.Module, source: str) -> None:
    """Fill `model.encoder` in place. `source`: imagenet, or a safetensors file of torchvision's or timm's
    resnet34 or of a whole resnet34-unet of ours. Raises UserError, ConfigError."""
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, ResNet34):
        raise ConfigError(
            f"model.encoder_weights={source}, but this model has no encoder that was trained elsewhere",
            "use model.name=resnet34-unet, or model.encoder_weights=none",
        )
    weights = imagenet_weights() if source == "imagenet" else read_weights(Path(source))
    named = str(placed_file()) if source == "imagenet" else source
    encoder.load_state_dict(_match(encoder, weights, named))


def _match(encoder: ResNet34, weights: Mapping[str, Tensor], named: str) -> dict[str, Tensor]:
    """Exactly the encoder's tensors out of `weights`; a classifier or a decoder beside them is left."""
    bare = {name.removeprefix("encoder."): tensor for name, tensor in weights.items()}
    matched = {}
    for name, own in encoder.state_dict().items():
        if name.endswith("num_batches_tracked"):
            matched[name] = own  # a counter that files often lack and nothing here reads
            continue
        tensor = bare.get(name)
        if tensor is not None and name == "conv1.weight" and tensor.ndim == 4:
            tensor = adapt_first_conv(tensor, own.shape[1])
        if tensor is None or tensor.shape != own.shape:
            found = "no" if tensor is None else f"{tuple(tensor.shape)} as"
            raise ConfigError(
                f"encoder weights {named} hold {found} {name}; the encoder needs {tuple(own.shape)}",
                "the file must be of a ResNet34 with the tensor names of torchvision and timm",
            )
        matched[name] = tensor
    return matched
