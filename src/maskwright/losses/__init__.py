"""Losses as pure functions, and sums of them written as `"0.5*ce + dice(per_image=1)"`.

Symbols: z logits, T truth (shares of the classes, 0 or 1 without MixUp), P = sigmoid(z) for one channel and
softmax(z) for more, V 1 where the truth is known and 0 elsewhere, w class weights, i a pixel of the
batch, k a class. All sums run in float32 at least, also under autocast. A batch without a single known
pixel costs 0 and has zero gradients.
"""

from maskwright.losses.contour import boundary, boundary_band, cldice, edge
from maskwright.losses.dense import huber, l1, l2
from maskwright.losses.pixel import bce, ce, focal, ohem
from maskwright.losses.region import dice, focal_tversky, iou, lovasz, tversky
from maskwright.losses.terms import DENSE_LOSSES, LOSSES, Loss, Term, class_weights, make_loss, parse_terms
from maskwright.losses.truth import Scalar, Truth, Valid, Weights, as_truth, edge_truth, edges

__all__ = [
    "DENSE_LOSSES",
    "LOSSES",
    "Loss",
    "Scalar",
    "Term",
    "Truth",
    "Valid",
    "Weights",
    "as_truth",
    "bce",
    "boundary",
    "boundary_band",
    "ce",
    "class_weights",
    "cldice",
    "dice",
    "edge",
    "edge_truth",
    "edges",
    "focal",
    "focal_tversky",
    "huber",
    "iou",
    "l1",
    "l2",
    "lovasz",
    "make_loss",
    "ohem",
    "parse_terms",
    "tversky",
]
