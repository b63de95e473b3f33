"""Stochastic depth: the mean is what evaluation gives, the rates rise linearly, and off is off to the last bit."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from maskwright.errors import ConfigError
from maskwright.models import build_model
from maskwright.models.blocks import StochasticDepth, depth_rates, make_stochastic_depth
from maskwright.models.resnet34_unet import BasicBlock, ResNet34


def rates(model: nn.Module) -> list[float]:
    """Of the blocks in their order, those that always stay left out."""
    return [module.probability for module in model.modules() if isinstance(module, StochasticDepth)]


def timms_rates(model: nn.Module) -> list[float]:
    found = [module for module in model.modules() if type(module).__name__ == "DropPath"]
    return [float(cast(float, module.drop_prob)) for module in found]


@pytest.mark.parametrize("probability", [0.2, 0.75])
def test_whole_pictures_are_dropped_and_the_mean_is_the_evaluation(probability: float) -> None:
    torch.manual_seed(0)
    drop, residual = StochasticDepth(probability), torch.randn(3, 2, 2, 2, dtype=torch.float64)
    many = residual.repeat(10_000, 1, 1, 1)
    dropped = drop(many)
    kept = dropped.flatten(1).any(1)
    torch.testing.assert_close(dropped[kept], many[kept] / (1 - probability))
    assert kept.double().mean().item() == pytest.approx(1 - probability, abs=0.01)  # 3.5 deviations and more
    mean = dropped.unflatten(0, (10_000, 3)).mean(0)
    torch.testing.assert_close(mean, residual, rtol=0.06, atol=0)
    assert torch.equal(drop.eval()(many), many)


def test_the_mean_of_a_linear_block_is_its_evaluation() -> None:
    """Without its ReLUs and norms, by the gradient of the mean too; and a picture has two fates, not more."""
    torch.manual_seed(0)
    block = BasicBlock(2, 2, 1, drop=0.5).double()
    for part in ("relu", "bn1", "bn2"):
        setattr(block, part, nn.Identity())
    weights = list(block.parameters())
    many = torch.randn(1, 2, 4, 4, dtype=torch.float64).expand(20_000, -1, -1, -1)

    def mean(training: bool) -> tuple[Tensor, ...]:
        output = block.train(training)(many).mean(0)
        return output, *torch.autograd.grad(output[0].sum(), weights)

    for trained, evaluated in zip(mean(training=True), mean(training=False), strict=True):
        torch.testing.assert_close(trained, evaluated, atol=0.04 * evaluated.abs().max().item(), rtol=0)
    assert len(block.train()(many[:64]).unique(dim=0)) == 2


def test_rates_rise_linearly_to_the_last_block() -> None:
    assert depth_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    with torch.device("meta"):
        encoder = ResNet34(3, 0.3)
    assert rates(encoder) == pytest.approx([0.3 * i / 15 for i in range(1, 16)])
    first = encoder.layer1[0]
    assert isinstance(first, BasicBlock)
    assert isinstance(first.drop, nn.Identity)


def test_the_rates_are_timms() -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model("resnet34", drop_path_rate=0.3)
        assert rates(ResNet34(3, 0.3)) == pytest.approx(timms_rates(theirs))


@pytest.mark.parametrize("training", [True, False])
def test_it_is_timms_block_with_the_same_draws(training: bool) -> None:
    resnet, layers = pytest.importorskip("timm.models.resnet"), pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    theirs = resnet.BasicBlock(4, 4, drop_path=layers.DropPath(0.4)).train(training)
    ours = BasicBlock(4, 4, 1, drop=0.4).train(training)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(16, 4, 6, 6)
    outputs = []
    for block in (ours, theirs):
        torch.manual_seed(1)
        outputs.append(block(images))
    assert torch.equal(*outputs)


def test_off_is_off_to_the_last_bit() -> None:
    """Nothing is drawn either: what follows would draw other numbers."""
    assert isinstance(make_stochastic_depth(0.0), nn.Identity)
    plain, images = BasicBlock(3, 5, 2), torch.randn(4, 3, 8, 8)
    before = torch.get_rng_state()
    residual = plain.bn2(plain.conv2(plain.relu(plain.bn1(plain.conv1(images)))))
    expected = plain.relu(residual + plain.downsample(images))
    assert torch.equal(plain(images), expected)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.device("meta"):
        names = [list(ResNet34(3, rate).state_dict()) for rate in (0.0, 0.5)]
    assert names[0] == names[1]


def test_first_weights_do_not_depend_on_it() -> None:
    weights = []
    for rate in (0.0, 0.5):
        torch.manual_seed(0)
        weights.append(build_model("resnet34-unet", 1, 2, width=4, stochastic_depth=rate).state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_bf16_keeps_its_kind_and_channels_last() -> None:
    block = BasicBlock(4, 4, 1, drop=0.5).to(memory_format=torch.channels_last)
    images = torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        residual = block.conv1(images)
        dropped = block.drop(residual)
    assert dropped.dtype == torch.bfloat16
    assert dropped.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.ci
def test_it_is_one_graph() -> None:
    block = BasicBlock(4, 4, 1, drop=0.5)
    compiled = torch.compile(block, fullgraph=True, backend="eager")
    images, outputs = torch.randn(8, 4, 6, 6), []
    for network in (block, compiled):
        torch.manual_seed(1)
        outputs.append(network(images))
    torch.testing.assert_close(*outputs)


# In the zoo

ENCODERS = [
    "fpn:test_resnet",
    "setr-naive:test_vit",
    *(pytest.param(f"fpn:{it}", marks=pytest.mark.slow) for it in ("test_convnext", "efficientnet_b0")),
    pytest.param("segformer:mit_b0", marks=pytest.mark.slow),
    pytest.param("dpt:test_vit", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_of_the_zoo_get_the_linear_rule(name: str) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    model = build_model(name, 3, 2, stochastic_depth=0.9)
    found = timms_rates(model.get_submodule("encoder"))
    assert found == sorted(found)
    assert found[-1] == pytest.approx(0.9, rel=0.25)  # EfficientNets end one step below
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # only the draws are left to differ
    for tensor in model.parameters():
        if tensor.ndim == 1:
            nn.init.uniform_(tensor, 0.5, 2)  # timm's residuals start at 0
    images = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(model(images), model(images))
        model.eval()
        assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("name", ["fpn:vgg11", pytest.param("fpn:hrnet_w18_small", marks=pytest.mark.slow)])
def test_encoders_without_such_blocks_are_refused(name: str) -> None:
    """One class of timm does not know the word, the other swallows it."""
    pytest.importorskip("segmentation_models_pytorch")
    says = f"model.stochastic_depth=0.1: the encoder of {name} has no blocks that could be left out; leave it at 0"
    with torch.device("meta"), pytest.raises(ConfigError, match=says):
        build_model(name, 3, 2, stochastic_depth=0.1)


@pytest.mark.parametrize("name", ["unet", "aspp-unet", "unetplusplus", "dual-unet"])
def test_networks_without_residual_blocks_are_refused(name: str) -> None:
    says = (
        rf"model\.stochastic_depth=0\.1: {name} has no such part; "
        r"resnet34-unet and most encoders of the zoo do; leave it at 0\.0 here"
    )
    with pytest.raises(ConfigError, match=says):
        build_model(name, 3, 2, width=4, stochastic_depth=0.1)
