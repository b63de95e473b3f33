"""Small random logits and labels in float64, and what it means that two losses agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from maskwright.tensors import IGNORE

B, H, W = 3, 5, 6


@pytest.fixture(scope="session")
def make_logits() -> Callable[..., Tensor]:
    def make(channels: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(B, channels, H, W, dtype=torch.float64, generator=generator)
        return logits.requires_grad_()

    return make


@pytest.fixture(scope="session")
def make_labels() -> Callable[..., Tensor]:
    def make(classes: int, seed: int = 1, *, ignore: bool = True) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, classes, (B, H, W), generator=generator)
        if ignore:
            labels[torch.rand(B, H, W, generator=generator) < 0.3] = IGNORE
        return labels

    return make


@pytest.fixture(scope="session")
def agree() -> Callable[..., None]:
    """The same value, and the same gradient of the logits."""

    def check(logits: Tensor, ours: Tensor, theirs: Tensor, tolerance: float = 1e-9) -> None:
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance / 1000)
        (own,) = torch.autograd.grad(ours, logits, retain_graph=True)
        (other,) = torch.autograd.grad(theirs, logits, retain_graph=True)
        torch.testing.assert_close(own, other, rtol=tolerance, atol=tolerance / 1000)

    return check
