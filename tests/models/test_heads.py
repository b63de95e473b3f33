"""Auxiliary heads: what they add in training, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskwright.errors import ConfigError
from maskwright.models import build_model
from maskwright.models.heads import Heads, add_heads, without_heads
from maskwright.tensors import Outputs

FAMILIES = (
    "unet",
    "attention-unet",
    "unetplusplus",
    "dual-unet",
    "resnet34-unet wide",
    "resnet34-unet narrow",
    "resnet34-unet unet",
)


def small(family: str, heads: int = 0, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    name, _, decoder = family.partition(" ")
    changes |= {"decoder": decoder} if decoder else {}
    model = build_model(name, 3, 3, width=4, depth=2, norm="none", **changes)
    add_heads(model, heads, name)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_they_add_a_number_per_pixel_and_change_nothing_else(family: str) -> None:
    plain, model = small(family), small(family, heads=2)
    images = torch.randn(2, 3, 13, 22)
    weights = without_heads(model.state_dict())
    assert weights.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in plain.state_dict().items())
    for module in [*plain.modules(), *model.modules()]:
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # of ResNet34: its figures stay as they are
    outputs = model(images)
    assert isinstance(outputs, Outputs)
    assert outputs.auxiliary is not None
    assert outputs.auxiliary.shape == (2, 2, 13, 22)
    assert torch.equal(torch.as_tensor(outputs.logits), plain(images))
    torch.autograd.backward(outputs.auxiliary.square().mean())
    reached = [name for name, tensor in model.named_parameters() if tensor.grad is not None]
    assert any("encoder" in name for name in reached), "the decoder's features learn with it"
    with torch.no_grad():
        assert torch.equal(model.eval()(images), plain.eval()(images))


def test_they_read_the_features_that_the_logits_are_made_of() -> None:
    model = small("unet", heads=2)
    seen: list[torch.Tensor] = []
    model.get_submodule("head").register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    heads, images = model.get_submodule("auxiliary"), torch.randn(1, 3, 16, 16)
    assert isinstance(heads, Heads)
    answers = model(images).auxiliary
    weight, bias = heads.head.weight, heads.head.bias
    torch.testing.assert_close(answers, F.conv2d(seen[0], weight, bias))


def test_with_deep_supervision_the_levels_stay_a_list() -> None:
    outputs = small("unet", heads=1, deep_supervision="fused")(torch.randn(1, 3, 16, 16))
    assert isinstance(outputs, Outputs)
    assert [len(level) for level in outputs.logits] == [1, 1, 1]


def test_heads_alone_in_training_mode_answer_in_evaluation() -> None:
    model, images = small("unet", heads=1, dropout=0.5).eval(), torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        logits = model(images)
        model.get_submodule("auxiliary").train()
        outputs = model(images)
    assert torch.equal(outputs.logits, logits)
    assert outputs.auxiliary.shape == (1, 1, 16, 16)


def test_the_plain_network_exports_as_before() -> None:
    model, images = small("unet").eval(), torch.randn(1, 3, 16, 16)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))


@pytest.mark.parametrize("name", ["fpn:resnet18", "setr-naive"])
def test_a_network_without_a_place_for_heads_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"loss.edge and loss.targets need a head that {name} cannot have"):
        add_heads(build_model(name, 3, 2), 1, name)


@pytest.mark.slow
@pytest.mark.ci
def test_it_is_one_graph_with_them() -> None:
    model, images = small("unet", heads=2, deep_supervision="levels"), torch.randn(2, 3, 20, 28)
    expected, found = model(images), torch.compile(model, fullgraph=True, backend="eager")(images)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.auxiliary, expected.auxiliary)
