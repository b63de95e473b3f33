"""The benchmark's methods against SciPy and against what scores use."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from maskwright.metrics import intervals
from maskwright.metrics.intervals import draws
from maskwright.metrics.measures import Features, Values

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("coverage")


def skewed(number: int = 40) -> np.ndarray:
    return np.random.default_rng(0).beta(8, 2, (3, number))


def test_percentile_and_bca_are_scipys(coverage: Any) -> None:
    values = skewed()
    sample = coverage.Sample.of([(values, np.ones_like(values))], resamples=20_000, seed=1)
    for name, oracle in (("percentile", "percentile"), ("BCa", "BCa")):
        low, high = coverage.METHODS[name](sample)
        for at in range(3):
            found = stats.bootstrap(
                (values[at],), np.mean, method=oracle, n_resamples=20_000, random_state=2
            ).confidence_interval
            assert (low[at], high[at]) == pytest.approx((found.low, found.high), abs=0.003)


def test_students_t_is_scipys(coverage: Any) -> None:
    values = skewed(12)
    low, high = coverage.student(coverage.Sample.of([(values, np.ones_like(values))]))
    for at in range(3):
        found = stats.ttest_1samp(values[at], 0).confidence_interval(0.95)
        assert (low[at], high[at]) == pytest.approx((found.low, found.high))


def test_the_studentised_interval_is_that_of_scores(coverage: Any) -> None:
    """Of a ratio, and of the difference of two."""
    random = np.random.default_rng(3)
    below, under = random.lognormal(0, 1, (2, 1, 30))
    top, over = below * random.beta(5, 2, (1, 30)), under * random.beta(5, 2, (1, 30))
    rows: Features = {"top": top[0], "below": below[0], "over": over[0], "under": under[0]}

    def judge(sums: Features) -> Values:
        one = sums["top"] / sums["below"]
        return np.stack([one, one - sums["over"] / sums["under"]], -1)

    ours = intervals.studentised(rows, judge, resamples=400, seed=5)
    for m, ratios in enumerate(([(top, below)], [(top, below), (over, under)])):
        sample = coverage.Sample.of(ratios, resamples=400, seed=5)
        assert sample.errors_S[0] == pytest.approx(ours.errors_M[m])
        low, high = coverage.studentised(sample)
        assert (low[0], high[0]) == pytest.approx(ours.intervals[m], rel=1e-4)


def test_every_population_has_the_truth_that_it_claims(coverage: Any) -> None:
    for title, population in coverage.POPULATIONS.items():
        (first, *second), _ = population.draw(np.random.default_rng(1), 40, 20_000)
        found = first[0].sum() / first[1].sum() - sum(top.sum() / below.sum() for top, below in second)
        assert found == pytest.approx(population.truth, abs=0.003), title


def test_the_page_gets_its_table(coverage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{coverage.START}\nwhat stood here\n{coverage.END}\nafter\n")
    words = ["coverage.py", "--simulations", "100", "--sizes", "60", "--out", str(page)]
    monkeypatch.setattr("sys.argv", words)
    coverage.main()
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "what stood here" not in text
    assert text.count("| 60 |") == len(coverage.POPULATIONS)


def test_draws_are_the_same_for_the_same_seed() -> None:
    one, other = (np.concatenate(list(draws(9, 50, 3))) for _ in range(2))
    assert np.array_equal(one, other)
