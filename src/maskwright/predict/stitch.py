"""The prediction of a picture as it is scored: whole, or of its tiles, whose cores are put together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from maskwright.data.dataset import Item
from maskwright.errors import DataError
from maskwright.tensors import Picture, Prediction


def answer(predict: Callable[[Picture], Prediction], item: Item, picture: Picture) -> Prediction:
    """What `predict` says of an item of `Dataset.scored`, at the picture's own size.

    Tiles go through alone, exactly as the network saw them in training, and each answers for its core: memory holds the
    picture, its prediction and one tile. Where no tile answers, class 0 is certain; the truth is IGNORE there. Raises
    DataError for a prediction of another size than its tile.
    """
    if not item.tiles:
        return predict(picture)
    mask_HW = np.zeros(picture.shape[:2], np.uint8)
    shares_KHW, temperature = None, 1.0
    for tile in item.tiles:
        said = predict(np.ascontiguousarray(picture[tile.window.slices]))
        if said.mask.shape != tile.window[2:]:
            wanted, found = (" x ".join(map(str, size)) for size in (tile.window[2:], said.mask.shape))
            raise DataError(
                f"{item.id}: the prediction of a tile of {wanted} is {found}",
                "predict at the picture's own size",
            )
        if shares_KHW is None:
            shares_KHW = np.zeros((len(said.probabilities), *mask_HW.shape), said.probabilities.dtype)
            shares_KHW[0] = 1
        inner = tile.core.within(tile.window).slices
        mask_HW[tile.core.slices] = said.mask[inner]
        shares_KHW[:, *tile.core.slices] = said.probabilities[:, *inner]
        temperature = said.temperature
    assert shares_KHW is not None
    return Prediction(mask_HW, shares_KHW, temperature)
