from __future__ import annotations

import math

import numpy as np
import torch

from maskwright.predict.postprocess import decide, probabilities
from maskwright.tensors import Prediction


def test_one_channel_is_a_sigmoid_of_two_classes() -> None:
    shares = probabilities(torch.tensor([0.0, math.log(3.0), -200.0, 200.0]).view(1, 1, 1, 4))
    torch.testing.assert_close(shares[0, :, 0], torch.tensor([[0.5, 0.25, 1, 0], [0.5, 0.75, 0, 1]]))


def test_several_channels_are_a_softmax() -> None:
    logits = torch.log(torch.tensor([1.0, 2.0, 5.0])).view(1, 3, 1, 1)
    torch.testing.assert_close(probabilities(logits).flatten(), torch.tensor([0.125, 0.25, 0.625]))


def test_the_likeliest_wins_and_of_two_classes_the_threshold_decides() -> None:
    three = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]]).T.view(1, 3, 1, 2)
    assert decide(three).flatten().tolist() == [1, 0]
    two = torch.tensor([[0.5, 0.4, 0.2], [0.5, 0.6, 0.8]]).view(1, 2, 1, 3)
    assert decide(two).flatten().tolist() == [0, 1, 1]
    assert decide(two, threshold=0.7).flatten().tolist() == [0, 0, 1]
    assert decide(two).dtype == torch.uint8


def test_what_is_almost_certain_can_still_be_calibrated() -> None:
    """sigmoid(25 / 5) by hand: 1 - p, 1.4e-11, must not have become 0 on the way."""
    shares = probabilities(torch.tensor([25.0, -25.0]).view(1, 1, 1, 2))[0].numpy()
    said = Prediction(np.zeros((1, 2), np.uint8), shares, temperature=5.0)
    exact = 1 / (1 + np.exp(-5))
    np.testing.assert_allclose(said.calibrated[:, 0, 0], [1 - exact, exact], rtol=1e-5)
    np.testing.assert_allclose(said.calibrated[:, 0, 1], [exact, 1 - exact], rtol=1e-5)
