"""From logits to the answer: probabilities of the classes, and the mask."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from maskwright.tensors import Labels, Logits


def probabilities(logits_BCHW: Logits) -> Float[Tensor, "B K H W"]:
    """Softmax over the classes; one channel is a sigmoid and gives [1 - p, p].

    1 - p is sigmoid(-logit): subtracted from 1 it would be 0 where p is within 6e-8 of 1, and a temperature, which
    takes a root of it, would have nothing to work on.
    """
    if logits_BCHW.shape[1] > 1:
        return logits_BCHW.softmax(dim=1)
    return torch.cat([-logits_BCHW, logits_BCHW], dim=1).sigmoid()


def decide(probabilities_BKHW: Float[Tensor, "B K H W"], threshold: float = 0.5) -> Labels:
    """Class ids, uint8: the likeliest class; of two classes the second where it is over `threshold`."""
    if probabilities_BKHW.shape[1] == 2:
        return (probabilities_BKHW[:, 1] > threshold).to(torch.uint8)
    # What torch's argmax gives, which takes as long on a CPU as a small network.
    best_BHW = probabilities_BKHW[:, 0].clone()
    likeliest_BHW = torch.zeros_like(best_BHW, dtype=torch.uint8)
    for k in range(1, probabilities_BKHW.shape[1]):
        likeliest_BHW.masked_fill_(probabilities_BKHW[:, k] > best_BHW, k)
        torch.maximum(best_BHW, probabilities_BKHW[:, k], out=best_BHW)
    return likeliest_BHW
