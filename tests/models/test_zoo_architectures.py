"""Architectures of the field: smp's own figures, any size, any channels, weights of timm, and clear refusals.

On timm's smallest encoders; three architectures in every run, the others are slow. tests/slow/test_every_model.py has
them in bf16, compiled and exported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maskwright.config import ModelConfig
from maskwright.errors import ConfigError
from maskwright.models import flops, parameters, zoo

smp = pytest.importorskip("segmentation_models_pytorch")
timm = pytest.importorskip("timm")

FEW = ("fpn", "deeplabv3plus", "setr-naive")
"""In every run."""
ALL = [
    pytest.param(name, marks=() if name in FEW else pytest.mark.slow)
    for name in (*zoo.ARCHITECTURES, *zoo.SETRS)
]
PYRAMIDS = [entry for entry in ALL if entry.values[0] in zoo.ARCHITECTURES and entry.values[0] != "dpt"]


def tiny(architecture: str) -> str:
    plain_vit = architecture == "dpt" or architecture in zoo.SETRS
    return f"{architecture}:{'test_vit' if plain_vit else 'test_resnet'}"


def build(name: str, in_channels: int = 3, out_channels: int = 2, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    return zoo.build(ModelConfig.model_validate({"name": name} | changes), in_channels, out_channels)


def on_meta(name: str, out_channels: int) -> nn.Module:
    with torch.device("meta"):
        return build(name, out_channels=out_channels)


def unsettle(model: nn.Module) -> None:
    """Norms that are not fresh: a swapped or a forgotten one shows, and none of timm's stays at 0."""
    for name, tensor in model.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.1)
        elif name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 2)


# What comes out


@pytest.mark.parametrize("architecture", PYRAMIDS)
def test_it_is_smps_network(architecture: str) -> None:
    entry = zoo.ARCHITECTURES[architecture]
    ours = build(tiny(architecture)).eval()
    unsettle(ours)
    theirs = getattr(smp, entry.network)("tu-test_resnet", encoder_weights=None, classes=2, **entry.options)
    tensors = {name.replace("head.", "segmentation_head.", 1): t for name, t in ours.state_dict().items()}
    theirs.load_state_dict(tensors)  # strict: every name is the same
    images = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(images))


@pytest.mark.parametrize("architecture", ALL)
@pytest.mark.parametrize(
    ("size", "in_channels", "classes"), [((97, 131), 4, 12), ((20, 30), 1, 1), ((1, 1), 3, 2)]
)
def test_any_size_any_channels(
    architecture: str, size: tuple[int, int], in_channels: int, classes: int
) -> None:
    model = build(tiny(architecture), in_channels, classes).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, in_channels, *size))
    assert logits.shape == (1, classes, *size)
    assert logits.isfinite().all()


def test_padding_repeats_the_border_and_is_cut_away() -> None:
    model = build(tiny("fpn")).eval()
    images = torch.randn(1, 3, 70, 90)
    padded = F.pad(images, (0, 6, 0, 26), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(model(images), model(padded)[..., :70, :90])


@pytest.mark.parametrize("architecture", ALL)
def test_gradient_reaches_every_parameter_of_a_single_picture(architecture: str) -> None:
    """One picture has one value per channel behind a global pooling; batch norm alone would refuse it."""
    model = build(tiny(architecture)).train()
    unsettle(model)
    model(torch.randn(1, 3, 64, 80)).square().mean().backward()
    may_be_silent = (
        "encoder.cls_token",
        "decoder.fpa.",
    )  # unread in SETR; one ReLU may shut PAN's one channel
    for name, tensor in model.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.any() or name.startswith(may_be_silent), name


def test_a_lone_value_is_normalised_as_in_prediction() -> None:
    norm = zoo.LoneBatchNorm2d(4)
    unsettle(norm)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    lone = torch.randn(1, 4, 1, 1)
    trained = norm.train()(lone)
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())
    torch.testing.assert_close(trained, norm.eval()(lone))
    plain = nn.BatchNorm2d(4)
    plain.load_state_dict(before)
    several = torch.randn(2, 4, 1, 1)
    torch.testing.assert_close(norm.train()(several), plain.train()(several))


# What it is called, and what it is told


def test_names_are_architectures_with_their_default_encoder() -> None:
    assert "fpn:resnet34" in zoo.names()
    assert [name.partition(":")[0] for name in zoo.names()] == [*zoo.ARCHITECTURES, *zoo.SETRS]
    assert all(zoo.is_zoo(name) and zoo.is_zoo(name.partition(":")[0]) for name in zoo.names())
    assert zoo.is_zoo("fpm:resnet18")  # nobody else would know what is wrong with it
    assert not any(zoo.is_zoo(name) for name in ("unet", "resnet34-unet", "nonsense"))


def test_the_default_encoder_and_smps_prefix_may_stand_there() -> None:
    names = [list(on_meta(name, 2).state_dict()) for name in ("fpn", "fpn:resnet34", "fpn:tu-resnet34")]
    assert names[0] == names[1] == names[2]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("deeplabv3:resnet18", r"no architecture 'deeplabv3'; did you mean deeplabv3plus"),
        ("fpn:resnet8", r"no encoder 'resnet8'; did you mean resnet"),
        ("fpn:", r"no encoder ''; timm\.list_models\(\) has the names"),
        ("fpn:qqqqqqqqqqqq", r"no encoder 'qqqqqqqqqqqq'; timm\.list_models\(\) has the names"),
        ("fpn:test_resnet.a9", r"no weights 'test_resnet\.a9'; known are: test_resnet\.r160_in1k"),
        ("fpn:test_vit", r"fpn:test_vit cannot be had: Unsupported .*; fpn needs maps of several sizes"),
        (
            "setr-pup:test_resnet",
            r"cannot be had: .*; setr-pup needs a plain Vision Transformer of timm, such",
        ),
        ("fpn:test_coatnet", r"test_coatnet cannot be had: .*pictures of any size"),
        ("pan:test_vit", r"pan dilates its encoder"),
        (
            "deeplabv3plus:hrnet_w18_small",
            r"AssertionError in `assert output_stride == 32.*`; deeplabv3plus dil",
        ),
        ("linknet:mit_b0", r"`mit_b0` is not supported for Linknet; linknet needs"),
    ],
)
def test_impossible_names_say_why(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        build(name)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"), [("width", 16), ("norm", "group"), ("upsample", "bilinear"), ("depth", 3)]
)
def test_keys_of_other_models_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"model\.{key}={value} means nothing to model\.name=fpn"):
        build("fpn", **{key: value})


@pytest.mark.parametrize("architecture", ["fpn", "deeplabv3plus", "pspnet", "dpt", "setr-pup"])
def test_dropout_reaches_the_decoder(architecture: str) -> None:
    for rate in (0.0, 0.25):
        model = build(tiny(architecture), dropout=rate)
        parts = nn.ModuleList([child for name, child in model.named_children() if name != "encoder"])
        rates = {m.p for m in parts.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)}
        assert rates == {rate}


def test_dropout_is_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match=r"model\.dropout=0\.5: the decoder of linknet:test_resnet has no"):
        build("linknet:test_resnet", dropout=0.5)


# Weights that others trained


def timms_file(path: Path, encoder: str) -> Path:
    """What timm would save, classifier included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = timm.create_model(encoder)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_(std=0.1)
    save_file(model.state_dict(), path)
    return path


ENCODERS = ["fpn:test_resnet", "setr-naive:test_vit", "upernet:test_convnext"]


@pytest.mark.parametrize(
    "name", [*ENCODERS, "dpt:test_vit", pytest.param("fpn:hrnet_w18_small", marks=pytest.mark.slow)]
)
def test_every_tensor_of_the_encoder_is_timms(name: str, tmp_path: Path) -> None:
    """By a name that differs only in how timm wraps it: `stages.0` and `stages_0`."""
    file = timms_file(tmp_path / "weights.safetensors", name.partition(":")[2])
    theirs = {key.replace(".", "_"): tensor for key, tensor in load_file(file).items()}
    ours = build(name, encoder_weights=str(file)).get_submodule("encoder")
    assert len(list(ours.parameters())) > 5
    for key, tensor in ours.named_parameters():
        assert torch.equal(tensor, theirs[key.removeprefix("model.").replace(".", "_")]), key


def test_loaded_weights_give_timms_features(tmp_path: Path) -> None:
    file = timms_file(tmp_path / "weights.safetensors", "test_resnet")
    theirs = timm.create_model("test_resnet", features_only=True).eval()
    theirs.load_state_dict(load_file(file), strict=False)
    ours = build("fpn:test_resnet", encoder_weights=str(file)).eval().get_submodule("encoder")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for own, other in zip(ours(images)[1:], theirs(images), strict=True):
            torch.testing.assert_close(own, other)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_the_first_layer_is_made_to_see_other_channels(name: str, in_channels: int, tmp_path: Path) -> None:
    file = timms_file(tmp_path / "weights.safetensors", name.partition(":")[2])
    three, other = (build(name, n, encoder_weights=str(file)).state_dict() for n in (3, in_channels))
    changed = [
        key for key, tensor in three.items() if key.startswith("enc") and tensor.shape != other[key].shape
    ]
    assert len(changed) == 1
    expected = zoo.adapt_first_conv(three[changed[0]], in_channels)
    torch.testing.assert_close(other[changed[0]], expected)


def test_the_encoder_of_a_saved_model_loads(tmp_path: Path) -> None:
    first, file = build("fpn:test_resnet", 4), tmp_path / "model.safetensors"
    torch.manual_seed(5)
    unsettle(first)
    save_file(first.state_dict(), file)
    second = build("linknet:test_resnet", 4, encoder_weights=str(file)).state_dict()
    for key, tensor in first.state_dict().items():
        assert not key.startswith("encoder.") or torch.equal(tensor, second[key]), key


def test_a_placed_file_is_used_for_imagenet(tmp_path: Path) -> None:
    file = timms_file(zoo.placed_file("test_resnet"), "test_resnet")
    model = build("fpn:test_resnet", encoder_weights="imagenet").state_dict()
    assert torch.equal(model["encoder.model.conv1.0.weight"], load_file(file)["conv1.0.weight"])


def test_weights_of_another_encoder_are_told_apart(tmp_path: Path) -> None:
    file = timms_file(tmp_path / "weights.safetensors", "test_vit")
    says = r"weights\.safetensors hold no model\.conv1.*the file must be of a test_resnet with timm's names"
    with pytest.raises(ConfigError, match=says):
        build("fpn:test_resnet", encoder_weights=str(file))


def test_where_the_weights_lie() -> None:
    assert zoo.repository("resnet34") == "timm/resnet34.a1_in1k"
    assert zoo.repository("resnet50.a1_in1k") == "timm/resnet50.a1_in1k"
    assert zoo.repository("mit_b0") == "smp-hub/mit_b0.imagenet"
    assert zoo.placed_file("mit_b0").name == "mit_b0.safetensors"
    with pytest.raises(ConfigError, match="timm has no weights of hrnet_w18_nonsense"):
        zoo.repository("hrnet_w18_nonsense")


# What the papers say


def test_segformer_b0_costs_what_its_paper_says() -> None:
    """Table 1, ADE20K, 150 classes, 512 pixels: 3.8 M parameters, 8.4 G multiplications with their additions."""
    model = build("segformer:mit_b0", out_channels=150)
    assert parameters(model) == pytest.approx(3.8e6, abs=0.05e6)
    assert parameters(model.get_submodule("encoder")) == pytest.approx(3.4e6, abs=0.1e6)
    assert flops(model, (512, 512), 3) / 2 == pytest.approx(8.4e9, abs=0.05e9)


def test_dpt_large_has_the_size_of_its_paper() -> None:
    """Ranftl et al. 2021, section 4.1: 343 M parameters, one channel of depth."""
    assert parameters(on_meta("dpt:vit_large_patch16_384", 1)) == pytest.approx(343e6, abs=0.5e6)


def test_deeplabv3plus_has_the_parts_of_its_paper() -> None:
    """Sections 3.1 and 4: ResNet50 without its classifier; ASPP of a 1x1, three 3x3 (here separable) and a pooling
    branch to 256 channels, projected to 256; 48 channels of the low level beside them."""
    model = on_meta("deeplabv3plus:resnet50", 21)
    assert parameters(model.get_submodule("encoder")) == 25_557_032 - (2048 * 1000 + 1000)
    assert model.get_submodule("head")[0].weight.shape == (21, 256, 1, 1)  # type: ignore[index]
    convs = [m for m in model.get_submodule("decoder").modules() if isinstance(m, nn.Conv2d)]
    assert [m.dilation for m in convs if m.dilation != (1, 1)] == [(rate, rate) for rate in (12, 24, 36)]
    assert [m.out_channels for m in convs if m.in_channels == 256 and m.out_channels == 48] == [48]


def test_pspnet_keeps_the_encoder_whole_at_an_eighth() -> None:
    """Zhao et al. 2017, section 3.3: the pyramid reads the last stage, dilated; smp's default cuts it off."""
    model = build("pspnet:test_resnet").eval()
    seen: list[Tensor] = []
    model.get_submodule("decoder").register_forward_hook(lambda _, args, __: seen.append(args[0][-1]))
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    widest = timm.create_model("test_resnet", features_only=True).feature_info.channels()[-1]
    assert seen[0].shape == (1, widest, 8, 8)
