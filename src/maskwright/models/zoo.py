"""Architectures of the field, on encoders of timm, and weights that others trained.

A zoo model is named `ARCHITECTURE` or `ARCHITECTURE:ENCODER`: `fpn`, `deeplabv3plus:resnet50`,
`upernet:convnext_tiny`, `fpn:hrnet_w18`. Encoders are timm's, by timm's own names (a weights tag behind a dot is
allowed), and the Mix Transformers `mit_b0` to `mit_b5` of SegFormer. Decoders come from
segmentation_models_pytorch as it makes them by default (except PSPNet, see below); SETR is ours.
This is the only module that knows the two libraries; nothing of them is imported, and nothing is fetched,
before somebody asks for it.

Every model takes pictures of any size: they are padded inside, and `build` tries an odd size once, on tensors
without memory. What cannot do it is refused with its own reason. Of the encoders of timm 1.0.31 these are

- bound to one size of picture by their windows, grids or positions: BEiT, BoTNet, CoaT, CoAtNet, EfficientFormer,
  GCViT, HaloNet, Hiera, MaxViT, NesT. Swin and plain ViTs are not: their `dynamic_img_size` is switched on;
- without padding, so that their maps do not meet in a decoder: Inception, the first Xception;
- without maps of halving sizes, for all but dpt and setr: plain ViTs, CaiT, ConvMixer, ConViT, CrossViT,
  EfficientViT-M, LeViT, PiT, Sequencer, Visformer, VOLO, XCiT. Patches of 14 pixels fit setr, but not dpt's levels;
- not to be dilated, for deeplabv3plus, pan and pspnet: HRNet, Swin, Mix Transformers.
"""

from __future__ import annotations

import difflib
import inspect
import re
import traceback
import warnings
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maskwright.config import ModelConfig, suggest
from maskwright.errors import ConfigError, UserError
from maskwright.files import cache_folder, write_atomic
from maskwright.models.blocks import crop_like
from maskwright.models.resnet34_unet import ResNet34
from maskwright.models.setr import SETR, Upsampling
from maskwright.tensors import Images, Logits


class Architecture(NamedTuple):
    """A decoder of segmentation_models_pytorch."""

    network: str
    """Its class there."""
    encoder: str
    """The one it gets where none is named."""
    multiple: int
    """Sides that it can take are multiples of this ..."""
    smallest: int
    """... and at least this long."""
    options: Mapping[str, int] = MappingProxyType({})
    """Where smp's defaults are not the paper's."""


ARCHITECTURES: dict[str, Architecture] = {
    "deeplabv3plus": Architecture("DeepLabV3Plus", "resnet50", 16, 32),
    "pspnet": Architecture("PSPNet", "resnet50", 8, 16, {"encoder_depth": 5, "output_stride": 8}),
    "fpn": Architecture("FPN", "resnet34", 32, 64),
    "upernet": Architecture("UPerNet", "convnext_tiny", 32, 64),
    "segformer": Architecture("Segformer", "mit_b0", 32, 64),
    "dpt": Architecture("DPT", "vit_small_patch16_224", 32, 64),
    "linknet": Architecture("Linknet", "resnet34", 32, 64),
    "manet": Architecture("MAnet", "resnet34", 32, 64),
    "pan": Architecture("PAN", "resnet34", 16, 128),
    "smp-unet": Architecture("Unet", "resnet34", 32, 64),
}
"""Chen et al. 2018, Zhao et al. 2017 (on all five stages, dilated to a stride of 8, which smp cuts to three), Lin et
al. 2017 with the head of Kirillov et al. 2019, Xiao et al. 2018, Xie et al. 2021, Ranftl et al. 2021, Chaurasia &
Culurciello 2017, Fan et al. 2020, Li et al. 2018 (halves its smallest map thrice), Ronneberger et al. 2015."""

DILATED = {"deeplabv3plus", "pspnet", "pan"}
"""Their encoders keep a finer map at the bottom than the 1/32 that they were made for."""

SETRS: dict[str, Upsampling] = {"setr-naive": "naive", "setr-pup": "pup"}
VIT = "vit_small_patch16_224"
"""Under SETR, where no encoder is named: the ViT-S of DeiT, 22 million parameters."""

MIX_TRANSFORMERS = tuple(f"mit_b{size}" for size in range(6))
"""Encoders that timm has not; smp takes them, code and weights, from SegFormer, whose licence keeps them for
research. `pvt_v2_b0` of timm is their freely licensed relative."""

MEANT = {"name", "outputs", "dropout", "stochastic_depth", "encoder_weights"}
"""The keys of ModelConfig that a zoo model obeys."""

RESNET34 = "timm/resnet34.a1_in1k"
"""ImageNet-1k, recipe A1 of Wightman et al. 2021; Apache-2.0. Named here so that it stays what it was measured with,
whatever timm takes for its default."""
PATIENCE = 3.0
"""Seconds that the hub gets for its first answer."""


class LoneBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that also trains where a channel has one value, as behind the global pooling of DeepLab, UPerNet
    and PAN when the batch is one picture. One value has no variance: the running figures are used, as in prediction,
    and stay as they are."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


class ZooModel(nn.Module):
    """Pictures B C H W -> logits B K H W, any H, W >= 1.

    The last row and column are repeated until both sides are multiples of `multiple` and at least `smallest`; the
    logits are cut back. The tensors are named as smp names them, below `encoder.`, `decoder.` and `head.`.
    Training works at batch 1 too: see LoneBatchNorm2d. Encoders that pool and then normalise with a
    batch norm of their own (few do) want two pictures.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, head: nn.Module, *, multiple: int, smallest: int
    ) -> None:
        super().__init__()
        self.multiple, self.smallest = multiple, smallest
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def forward(self, images: Images) -> Logits:
        padded = self.pad(images)  # B C H W
        features = self.encoder(padded)  # a list, H ... H/32; DPT: (that, class tokens)
        decoded = self.decoder(*features) if isinstance(features, tuple) else self.decoder(features)  # H/2...
        logits = self.head(decoded)  # B K H W
        return crop_like(logits, images)

    def pad(self, images: Images) -> Images:
        height, width = images.shape[-2:]
        below, right = (max(side + -side % self.multiple, self.smallest) - side for side in (height, width))
        return F.pad(images, (0, right, 0, below), mode="replicate")


def is_zoo(name: str) -> bool:
    """Whether `build` is the one to ask about `name`: a known architecture, or anything with a colon."""
    return ":" in name or name in ARCHITECTURES or name in SETRS


def names() -> list[str]:
    """Every architecture on its default encoder: `fpn:resnet34` and so on."""
    return [f"{name}:{entry.encoder}" for name, entry in ARCHITECTURES.items()] + [
        f"{name}:{VIT}" for name in SETRS
    ]


def build(config: ModelConfig, in_channels: int, out_channels: int) -> nn.Module:
    """The network that `config.name` names, with random weights or, in its encoder, `config.encoder_weights`.

    `config.dropout` is the probability in the decoder, where that has dropout; 0 by default, whatever smp takes.
    `config.stochastic_depth` is timm's `drop_path_rate`, per picture and by the linear rule too; 0 leaves an encoder
    what its own definition says: 0.1 for Mix Transformers, none for nearly all others.
    Raises ConfigError: unknown names, keys of another model, an encoder that the architecture, stochastic depth or
    pictures of any size cannot be had with; UserError where weights are out of reach.
    """
    architecture, encoder = _parse(config.name)
    _refuse_other_keys(config)
    try:
        if architecture in SETRS:
            model: nn.Module = _setr(
                SETRS[architecture], encoder, in_channels, out_channels, config.dropout, _drop_options(config)
            )
        else:
            model = _smp(
                ARCHITECTURES[architecture], encoder, in_channels, out_channels, _drop_options(config)
            )
            _set_dropout(model, config)
        _check_stochastic_depth(model, config)
        _try_odd_size(model, in_channels)
    except UserError:
        raise
    except Exception as error:  # timm and smp raise what they like
        if "drop_path_rate" in str(error):
            raise _cannot_drop(config) from error
        raise ConfigError(
            f"model.name={config.name} cannot be had: {_in_one_line(error)}", _advice(architecture)
        ) from error
    if config.encoder_weights != "none":
        _load(model.get_submodule("encoder"), encoder, config.encoder_weights)
    return model


def _advice(architecture: str) -> str:
    if architecture in SETRS or architecture == "dpt":
        return f"{architecture} needs a plain Vision Transformer of timm, such as {VIT}"
    if architecture in DILATED:
        return (
            f"{architecture} dilates its encoder, as ResNets, ConvNeXts, EfficientNets and MobileNets allow"
        )
    known = ARCHITECTURES[architecture].encoder
    return f"{architecture} needs maps of several sizes, and of pictures of any size, as {known} has them"


def _parse(name: str) -> tuple[str, str]:
    """Architecture and encoder, both known. `tu-` before the encoder, as smp writes timm's names, is dropped."""
    architecture, colon, encoder = name.partition(":")
    known = [*ARCHITECTURES, *SETRS]
    if architecture not in known:
        raise ConfigError(
            f"model.name={name}: there is no architecture {architecture!r}", suggest(architecture, known)
        )
    default = VIT if architecture in SETRS else ARCHITECTURES[architecture].encoder
    encoder = encoder.removeprefix("tu-") if colon else default
    if encoder not in MIX_TRANSFORMERS:
        _check_timm_name(name, encoder)
    return architecture, encoder


def _check_timm_name(name: str, encoder: str) -> None:
    import timm

    plain, dot, _ = encoder.partition(".")
    encoders = timm.list_models()
    if plain not in encoders:
        close = difflib.get_close_matches(plain, [*encoders, *MIX_TRANSFORMERS], n=1, cutoff=0.5)
        raise ConfigError(
            f"model.name={name}: there is no encoder {plain!r}",
            f"did you mean {close[0]}?" if close else "timm.list_models() has the names",
        )
    tagged = timm.list_pretrained(f"{plain}.*") if dot else []
    if dot and encoder not in tagged:
        raise ConfigError(
            f"model.name={name}: timm has no weights {encoder!r}",
            f"known are: {', '.join(tagged) or 'none'}; the tag may be left out",
        )


def _refuse_other_keys(config: ModelConfig) -> None:
    """A key that changes nothing must not be set."""
    for key, field in ModelConfig.model_fields.items():
        value, default = getattr(config, key), field.get_default(call_default_factory=True)
        if key not in MEANT and value != default:
            raise ConfigError(
                f"model.{key}={value} means nothing to model.name={config.name}",
                f"leave it at {default}; name another encoder instead (ARCHITECTURE:ENCODER)",
            )


def _size_options(encoder: str) -> dict[str, Any]:
    """What makes a transformer of timm take pictures of any size, as far as its class has it."""
    import timm

    try:
        with torch.device("meta"):
            made = type(timm.create_model(encoder))
    except Exception:  # some compute while they are made, which cannot be done without memory
        return {}
    known = inspect.signature(made).parameters
    return {
        key: value for key, value in (("dynamic_img_size", True), ("strict_img_size", False)) if key in known
    }


def _drop_options(config: ModelConfig) -> dict[str, Any]:
    """What timm is told about stochastic depth: nothing where it is off, as most of its classes know none."""
    return {"drop_path_rate": config.stochastic_depth} if config.stochastic_depth else {}


def _check_stochastic_depth(model: nn.Module, config: ModelConfig) -> None:
    """Some classes of timm swallow `drop_path_rate` and drop nothing."""
    blocks = (m for m in model.get_submodule("encoder").modules() if type(m).__name__ == "DropPath")
    if config.stochastic_depth and not any(getattr(block, "drop_prob", 0) for block in blocks):
        raise _cannot_drop(config)


def _cannot_drop(config: ModelConfig) -> ConfigError:
    return ConfigError(
        f"model.stochastic_depth={config.stochastic_depth}: the encoder of {config.name} has no blocks that could be "
        "left out",
        "leave it at 0, or take an encoder such as resnet34, convnext_tiny or " + VIT,
    )


def _smp(
    architecture: Architecture, encoder: str, in_channels: int, out_channels: int, drop: Mapping[str, Any]
) -> ZooModel:
    import segmentation_models_pytorch as smp

    of_timm = encoder not in MIX_TRANSFORMERS
    with warnings.catch_warnings():  # that DPT is told to read a class token although the encoder has none
        warnings.simplefilter("ignore", UserWarning)
        network = getattr(smp, architecture.network)(
            f"tu-{encoder}" if of_timm else encoder,
            encoder_weights=None,
            in_channels=in_channels,
            classes=out_channels,
            **architecture.options,
            **({**_size_options(encoder), **drop} if of_timm else {}),
        )
    if drop and not of_timm:
        network.encoder.reset_drop_path(**drop)
    if architecture.network == "DPT":  # classifier and last norm of the ViT are never used
        network.encoder.model.prune_intermediate_layers(1, prune_norm=True, prune_head=True)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:  # the same tensors under the same names
            module.__class__ = LoneBatchNorm2d
    return ZooModel(
        network.encoder,
        network.decoder,
        network.segmentation_head,
        multiple=architecture.multiple,
        smallest=architecture.smallest,
    )


def _setr(
    kind: Upsampling,
    encoder: str,
    in_channels: int,
    out_channels: int,
    dropout: float,
    drop: Mapping[str, Any],
) -> SETR:
    import timm

    options = {**_size_options(encoder), **drop}
    vit = timm.create_model(encoder, in_chans=in_channels, num_classes=0, global_pool="", **options)
    rows, columns = vit.patch_embed.patch_size
    if rows != columns:
        raise ValueError(f"its patches are {rows} x {columns}, not square")
    return SETR(vit, rows, out_channels, kind, dropout)


def _set_dropout(model: nn.Module, config: ModelConfig) -> None:
    """In decoder and head; the encoder keeps what timm gives it (none, unless its paper says so)."""
    dropouts = [
        module
        for part in ("decoder", "head")
        for module in model.get_submodule(part).modules()
        if isinstance(module, nn.Dropout | nn.Dropout2d)
    ]
    if config.dropout and not dropouts:
        raise ConfigError(
            f"model.dropout={config.dropout}: the decoder of {config.name} has no dropout", "set it to 0"
        )
    for module in dropouts:
        module.p = config.dropout


def _try_odd_size(model: nn.Module, in_channels: int) -> None:
    """One prediction of 65 x 161 pixels without memory or work. Raises whatever the network raises.

    A network without memory of its own, of which somebody wants to know the shapes alone, is not tried.
    """
    if any(tensor.is_meta for tensor in model.parameters()):
        return
    tensors = {name: t.to("meta") for name, t in chain(model.named_parameters(), model.named_buffers())}
    model.eval()
    with torch.no_grad():
        try:
            torch.func.functional_call(model, tensors, torch.empty(1, in_channels, 65, 161, device="meta"))
        except Exception:  # perhaps only because it reads values; the truth costs some work
            model(torch.zeros(1, in_channels, 65, 161))
    model.train()


def _in_one_line(error: Exception) -> str:
    """What it says, or the line that it was raised in: timm has assertions without words."""
    said = str(error) or f"{type(error).__name__} in `{traceback.extract_tb(error.__traceback__)[-1].line}`"
    return " ".join(said.split())[:200]


PREPARED: dict[tuple[tuple[float, ...], tuple[float, ...]], str] = {
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)): "imagenet",
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)): "symmetric",
}
"""Mean and deviation of the channels -> the `input.normalise` that subtracts and divides by them."""


def trained_normalise(name: str) -> str | None:
    """The `input.normalise` that the ImageNet weights for the encoder of model `name` were trained with; None where
    none of ours is the same, or where there are no such weights. Nothing is built or fetched."""
    if not is_zoo(name):
        return "imagenet"
    import timm

    encoder = _parse(name)[1]
    if encoder in MIX_TRANSFORMERS:
        return "imagenet"
    settings = timm.get_pretrained_cfg(encoder)
    return None if settings is None else PREPARED.get((tuple(settings.mean), tuple(settings.std)))


def placed_file(encoder: str = "resnet34") -> Path:
    """Where ImageNet weights of an encoder are looked for, and kept once they were fetched."""
    return cache_folder() / "weights" / f"{encoder}.safetensors"


def repository(encoder: str) -> str:
    """The hub's name of the encoder's weights; each repository states its licence. Raises ConfigError."""
    if encoder == "resnet34":
        return RESNET34
    if encoder in MIX_TRANSFORMERS:
        return f"smp-hub/{encoder}.imagenet"
    import timm

    settings = timm.get_pretrained_cfg(encoder)
    if settings is None or not settings.hf_hub_id:
        raise ConfigError(
            f"model.encoder_weights=imagenet: timm has no weights of {encoder}",
            "name a safetensors file, or train with model.encoder_weights=none",
        )
    return str(settings.hf_hub_id)


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


def _fetch(encoder: str) -> dict[str, Tensor]:
    """From the hub's own cache on this machine, or from the hub. Raises UserError within seconds."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    source = repository(encoder)
    known = try_to_load_from_cache(source, "model.safetensors")
    if isinstance(known, str):
        return read_weights(Path(known))
    try:
        # One question with one answer: the download itself would knock for half a minute at a closed door.
        get_hf_file_metadata(hf_hub_url(source, "model.safetensors"), timeout=PATIENCE)
        return read_weights(Path(hf_hub_download(source, "model.safetensors")))
    except UserError:
        raise
    except Exception as error:  # whatever the hub's HTTP library raises, the answer is the same
        raise UserError(
            f"the ImageNet weights {source} cannot be fetched ({type(error).__name__})",
            f"place its model.safetensors at {placed_file(encoder)}, or train with model.encoder_weights=none",
        ) from error


def imagenet_weights(encoder: str = "resnet34") -> dict[str, Tensor]:
    """The placed file, or else fetched once and kept there. Raises UserError, ConfigError."""
    path = placed_file(encoder)
    if not path.is_file():
        weights = _fetch(encoder)
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
    """Fill `model.encoder`, a ResNet34 of ours, in place. `source`: imagenet, or a safetensors file of
    torchvision's or timm's resnet34 or of a whole resnet34-unet of ours. Raises UserError, ConfigError."""
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, ResNet34):
        raise ConfigError(
            f"model.encoder_weights={source}, but this model has no encoder that was trained elsewhere",
            "use model.name=resnet34-unet, or model.encoder_weights=none",
        )
    _load(encoder, "resnet34", source)


def _load(encoder: nn.Module, name: str, source: str) -> None:
    """Fill an encoder that timm calls `name` in place."""
    weights = imagenet_weights(name) if source == "imagenet" else read_weights(Path(source))
    named = str(placed_file(name)) if source == "imagenet" else source
    encoder.load_state_dict(_match(encoder, name, weights, named))


def _bare(name: str) -> str:
    """A tensor's name without what it was wrapped in: timm writes `stages.0` or `stages_0` for the same
    module, and a saved model of ours has `encoder.` or `encoder.model.` before it."""
    return re.sub(r"^((encoder|model)\.)+", "", name).replace(".", "_")


def _match(encoder: nn.Module, name: str, weights: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """Exactly the encoder's tensors out of `weights`; a classifier or a decoder beside them is left."""
    bare = {_bare(key): tensor for key, tensor in weights.items()}
    tensors = encoder.state_dict()
    first = next(key for key, own in tensors.items() if own.ndim == 4)
    matched = {}
    for key, own in tensors.items():
        if not own.is_floating_point():
            matched[key] = own  # counters that files often lack and nothing here reads
            continue
        tensor = bare.get(_bare(key))
        if tensor is not None and key == first and tensor.ndim == 4:
            tensor = adapt_first_conv(tensor, own.shape[1])
        if tensor is None or tensor.shape != own.shape:
            found = "no" if tensor is None else f"{tuple(tensor.shape)} as"
            raise ConfigError(
                f"encoder weights {file} hold {found} {key}; the encoder needs {tuple(own.shape)}",
                f"the file must be of a {name} with timm's names for its tensors",
            )
        matched[key] = tensor
    return matched
