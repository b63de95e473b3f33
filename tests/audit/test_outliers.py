"""Outliers: a crowd of them neither hides itself nor is invented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskwright.audit.looks import FEATURES, look_of
from maskwright.audit.outliers import FAR, oddest, strangeness
from maskwright.audit.run import audit
from maskwright.data.synthetic import materialise


def correlated(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(5).standard_normal((6, 6))
    return np.asarray(random.standard_normal((count, 6)) @ mixing)


def test_a_normal_crowd_has_no_outliers() -> None:
    assert (strangeness(correlated(600)) < FAR).all()


def test_a_crowd_of_outliers_does_not_hide_itself() -> None:
    """A tenth of the rows in one far corner: with the plain covariance they would be near."""
    rows = correlated(600)
    rows[:60] = 25 + 0.5 * correlated(60, seed=1)
    assert np.flatnonzero(strangeness(rows) > FAR).tolist() == list(range(60))


def test_what_is_unusual_only_in_combination_is_found() -> None:
    """Each of its numbers alone is common; the two always agree elsewhere."""
    rows = np.random.default_rng(0).standard_normal((400, 2))
    rows[:, 1] = rows[:, 0] + 0.05 * rows[:, 1]
    rows[0] = (1.5, -1.5)
    far = strangeness(rows)
    assert far.argmax() == 0
    assert far[0] > 3


def test_scale_and_shift_of_a_feature_do_not_matter() -> None:
    rows = correlated(300)
    other = rows * [1, 10, 0.1, 3, 7, 2] + 5
    np.testing.assert_allclose(strangeness(rows), strangeness(other), atol=0.02)


def test_too_few_pictures_say_nothing() -> None:
    assert (strangeness(correlated(20)) == 0).all()


def test_the_oddest_feature_is_named() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 6))
    rows[3, 4] = -30
    place, deviations = oddest(rows)[3]
    assert place == 4
    assert deviations < -20


def test_every_feature_has_a_name_and_follows_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    features = look_of(picture).features
    assert len(features) == len(FEATURES) == len(set(FEATURES))
    assert np.isfinite(features).all()
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    named = dict(zip(FEATURES, look_of(red).features, strict=True))
    assert named["red against green"] == named["saturation"] == 1
    assert named["contrast"] == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_the_spoilt_pictures_of_a_terrain_are_found() -> None:
    file: Path = materialise("terrain", train=700, validation=60, test=150, seed=3)
    spoilt = set((file.parent / "spoilt.txt").read_text().split())
    (outliers,) = (finding for finding in audit(file).findings if finding.id == "outliers")
    hits = len(spoilt & set(outliers.ids))
    assert hits / len(spoilt) > 0.95
    assert hits / len(outliers.ids) > 0.9
