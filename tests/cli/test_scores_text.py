from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from maskwright.cli.scores import gain, scores_text
from maskwright.data.classes import ClassMap, default_palette
from maskwright.evaluation import judge
from maskwright.metrics.contract import DEFAULT
from maskwright.metrics.measures import Tallies
from maskwright.metrics.scores import Scores, scores
from maskwright.tensors import Prediction

CLASSES = ClassMap(("ground", "disc"), default_palette(2), {0: 0, 1: 1})


def shown(result: Scores) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100).print(scores_text(result, "test"))
    return stream.getvalue()


def test_sizes_and_errors_are_shown_where_they_were_counted() -> None:
    truth = np.zeros((40, 40), dtype=np.uint8)
    truth[:36, :36] = 1
    said = np.roll(truth, 1, axis=1)
    prediction = Prediction(said, np.zeros((2, 40, 40), dtype=np.float32))
    picture = np.zeros((40, 40, 1), dtype=np.uint8)
    tallies, objects, _ = judge("a", picture, truth, prediction, 2, DEFAULT.resolved(2))
    text = shown(scores(tallies, ["a"], CLASSES.names, objects=objects))
    words = [line.split() for line in text.splitlines()]
    assert ["medium", "1", "1.0000", "–", "0.9722", "0"] in words
    slips = next(line for line in words if line[:2] == ["boundary", "slips"])
    assert slips[2:] == ["100.0", "%", "+", "13.3", "+", "2.8"]
    assert any(line[:2] == ["hd95", "px"] for line in words)
    bare = shown(scores(Tallies(tallies.counts_NK4), ["a"], CLASSES.names))
    assert not any(word in bare for word in ("medium", "slips", "hd95"))


def test_a_gain_has_its_sign_apart() -> None:
    assert [gain(value) for value in (0.0312, -0.004, 0.0, float("nan"))] == ["+ 3.1", "- 0.4", "+ 0.0", "–"]
