"""Pictures unlike the others, by colour, texture and layout (`looks.FEATURES`): nothing has to be downloaded.

The distance is that of Mahalanobis with the centre and covariance of the calmest three quarters (minimum covariance
determinant; Rousseeuw and Van Driessen, A fast algorithm for the minimum covariance determinant estimator, 1999), so
that outliers do not widen the measure that is to find them, even when they come in a crowd.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

KEPT = 0.75
"""Share of the pictures that define what is usual; at most a quarter may be outliers."""
LEAST = 4
"""Pictures per feature below which no covariance is trusted."""
FAR = 4.4
"""Times the usual spread of the logarithm of the distance, above its median."""
_MOST = 20.0
_STARTS = 8
_STEPS = 8

Rows = Float64[np.ndarray, "N F"]
Column = Float64[np.ndarray, " N"]


def strangeness(features: Rows) -> Column:
    """How far each picture lies from the others, in spreads of log distance above the median; 0 with too few pictures.

    The spread is that between the median and the quantile that is one deviation above it in a normal distribution: a
    collection whose distances have a long tail by nature is given a long tail.
    """
    rows = _standardised(features)
    if len(rows) < LEAST * max(rows.shape[1], 1) or not rows.shape[1]:
        return np.zeros(len(rows))
    logs = np.log(_distances(rows) + 1e-9)
    middle, upper = np.quantile(logs, (0.5, ndtr(1.0)))
    return np.asarray((logs - middle) / max(float(upper - middle), 1e-9), np.float64)


def oddest(features: Rows) -> list[tuple[int, float]]:
    """Per picture the feature that lies farthest from the median, and by how many deviations (robust ones)."""
    centre, spread = _scale(features)
    deviations = (features - centre) / spread
    places = np.abs(deviations).argmax(1)
    return [(int(place), float(row[place])) for place, row in zip(places, deviations, strict=True)]


def _scale(features: Rows) -> tuple[Float64[np.ndarray, " F"], Float64[np.ndarray, " F"]]:
    """Median and robust deviation. A feature that is the same in most pictures gets a spread all the same."""
    centre = np.median(features, axis=0)
    spread = 1.4826 * np.median(np.abs(features - centre), axis=0)
    return centre, np.maximum(np.maximum(spread, 0.05 * features.std(0)), 1e-6)


def _standardised(features: Rows) -> Rows:
    """Without what is constant (the colours of grey pictures)."""
    centre, spread = _scale(features)
    told = features.std(0) > 1e-4
    return np.asarray(((features - centre) / spread).clip(-_MOST, _MOST)[:, told])


def _distances(rows: Rows) -> Column:
    """Mahalanobis distances from the calmest KEPT of the rows: the best of several concentrations."""
    count, width = rows.shape
    kept, random = int(count * KEPT), np.random.default_rng(0)
    best = (np.inf, np.zeros(count))
    for _ in range(_STARTS):
        inside = random.choice(count, min(count, LEAST * width), replace=False)
        for _ in range(_STEPS):
            squares = _squares(rows, inside)
            inside = np.argpartition(squares, kept)[:kept]
        volume = float(np.linalg.slogdet(_covariance(rows[inside]))[1])
        if volume < best[0]:
            best = (volume, _squares(rows, inside))
    return np.asarray(np.sqrt(best[1].clip(0)))


def _squares(rows: Rows, inside: np.ndarray) -> Column:
    away = rows - rows[inside].mean(0)
    return np.asarray(np.einsum("nf,nf->n", away @ np.linalg.inv(_covariance(rows[inside])), away))


def _covariance(rows: Rows) -> Float64[np.ndarray, "F F"]:
    return np.asarray(np.cov(rows.T).reshape(rows.shape[1], rows.shape[1]) + 1e-6 * np.eye(rows.shape[1]))
