"""The confusion matrix of an evaluation: kept, read again, joined, and the same pixels as the counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskwright.errors import RunError
from maskwright.metrics.counts import confusion, tally
from maskwright.metrics.scores import Scores, merge, scores

NAMES = ("a", "b", "c")


def judged(seed: int, ids: str) -> Scores:
    random = np.random.default_rng(seed)
    matrices = [
        confusion(random.integers(0, 3, (7, 9)), random.integers(0, 3, (7, 9)), len(NAMES)) for _ in ids
    ]
    found = scores(tally(np.stack(matrices)), list(ids), NAMES)
    return replace(found, confusion_KK=np.sum(matrices, axis=0))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    given = judged(0, "xyz")
    given.save(tmp_path)
    found = Scores.load(tmp_path).confusion_KK
    assert found is not None
    assert given.confusion_KK is not None
    assert found.tolist() == given.confusion_KK.tolist()


def test_scores_of_before_have_none(tmp_path: Path) -> None:
    judged(0, "xyz").save(tmp_path)
    (tmp_path / "confusion.json").unlink()
    assert Scores.load(tmp_path).confusion_KK is None


@pytest.mark.parametrize("content", ["[[1, 2]]", "nonsense", "[[1, 2, 3], [4, 5, 6]]"])
def test_a_damaged_one_is_a_clear_error(tmp_path: Path, content: str) -> None:
    judged(0, "xyz").save(tmp_path)
    (tmp_path / "confusion.json").write_text(content)
    with pytest.raises(RunError, match="damaged"):
        Scores.load(tmp_path)


def test_joined_scores_have_the_sum_or_none() -> None:
    first, second = judged(0, "xyz"), judged(1, "uv")
    joined = merge([first, second]).confusion_KK
    assert joined is not None
    assert joined.sum() == 5 * 63
    assert joined.tolist() == (first.confusion_KK + second.confusion_KK).tolist()  # type: ignore[operator]
    assert merge([first, replace(second, confusion_KK=None)]).confusion_KK is None
