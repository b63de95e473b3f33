"""How long a prediction takes."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from maskwright.models.measure import WARM_UP, latency


class Sleeper(nn.Module):
    """Answers after a known time; the first answers take longer, as they do in life."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.calls = 0
        self.seen: set[tuple[object, ...]] = set()

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.seen.add((tuple(images.shape), self.training, torch.is_inference_mode_enabled()))
        time.sleep(0.2 if self.calls <= WARM_UP else 0.01)
        return images * self.weight


def test_the_first_predictions_do_not_count() -> None:
    model = Sleeper()
    taken = latency(model, (6, 4), 2, repeats=5)
    assert 0.01 <= taken.fastest <= taken.median <= taken.slowest
    assert taken.fastest < 0.2
    assert model.calls == WARM_UP + 5


def test_it_predicts_and_leaves_the_model_as_it_was() -> None:
    model = Sleeper().train()
    latency(model, (6, 4), 2, repeats=1)
    assert model.seen == {((1, 2, 6, 4), False, True)}
    assert model.training
    latency(model.eval(), (6, 4), 2, repeats=1)
    assert not model.training
