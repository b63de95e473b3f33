"""The contract: a hash that anybody can recompute, equal for equal meanings, and no meaningless contract."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from maskwright.errors import ConfigError
from maskwright.metrics.contract import DEFAULT, MetricContract, contract_names, read_contract
from maskwright.metrics.counts import tally
from maskwright.metrics.scores import scores, summary


def test_the_hash_is_the_documented_one() -> None:
    text = (
        '{"absent":"skip","boundary":0.02,"drop_truth":[],"empty":"skip","foreground":[1],"ignore":255,'
        '"resolution":"native","threshold":0.5,"tolerance":2.0,"version":1}'
    )
    assert DEFAULT.resolved(2).hash == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_golden_hashes_never_change() -> None:
    """Scores of old runs are compared by these; a change of them needs another `version`."""
    assert DEFAULT.resolved(2).hash == "99a52dc2b84d"
    assert DEFAULT.resolved(5).hash == "97c403517cb0"


def test_equal_meanings_have_equal_hashes() -> None:
    automatic = DEFAULT.resolved(4)
    assert MetricContract(foreground=(3, 1, 2, 1)).resolved(4).hash == automatic.hash
    assert automatic.resolved(4) == automatic
    assert (
        MetricContract.model_validate({"tolerance": 2, "threshold": "0.5"}).resolved(4).hash == automatic.hash
    )
    sizes = [MetricContract.model_validate({"resolution": size}) for size in ("96,128", [96, 128], (96, 128))]
    assert len({contract.hash for contract in sizes}) == 1
    assert MetricContract(drop_truth=(2, 0)).hash == MetricContract(drop_truth=(0, 2, 2)).hash


@pytest.mark.parametrize(
    "change",
    [
        {"ignore": 254},
        {"foreground": (0, 1)},
        {"drop_truth": (0,)},
        {"absent": "zero"},
        {"empty": "one"},
        {"threshold": 0.4},
        {"resolution": (64, 64)},
        {"boundary": 0.01},
        {"tolerance": 3},
    ],
)
def test_every_field_is_part_of_the_hash(change: dict[str, object]) -> None:
    assert MetricContract.model_validate(change).resolved(2).hash != DEFAULT.resolved(2).hash


@pytest.mark.parametrize(
    ("contract", "classes", "says"),
    [
        (MetricContract(foreground=(2,)), 2, "foreground names class 2"),
        (MetricContract(drop_truth=(0, 7)), 5, "drop_truth names class 7"),
        (MetricContract(ignore=0), 2, "use drop_truth: [0]"),
        (MetricContract(threshold=0.4), 3, "means nothing for 3 classes"),
        (DEFAULT, 1, "write the background out"),
    ],
)
def test_a_contract_that_cannot_mean_anything_is_refused(
    contract: MetricContract, classes: int, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        contract.resolved(classes)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"empty": "nan"},
        {"foreground": ()},
        {"threshold": float("nan")},
        {"tolerance": float("inf")},
        {"ignored": 255},
        {"version": 2},
        {"resolution": "network"},
    ],
)
def test_values_outside_the_definitions_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MetricContract.model_validate(values)


def test_a_contract_is_read_from_yaml_and_from_its_own_json(tmp_path: Path) -> None:
    yaml, json = tmp_path / "contract.yaml", tmp_path / "contract.json"
    yaml.write_text("empty: one\nresolution: [32, 48]\nforeground: [1, 3]\n")
    expected = MetricContract(empty="one", resolution=(32, 48), foreground=(1, 3))
    assert read_contract(yaml) == expected
    json.write_text(expected.model_dump_json())
    assert read_contract(json) == expected
    json.write_text('{\n\t"empty": "one",\n\t"resolution": [32, 48], "foreground": [1, 3]}')  # tabs: not YAML
    assert read_contract(json) == expected
    yaml.write_text("")
    assert read_contract(yaml) == DEFAULT


def test_scores_json_lends_its_contract(tmp_path: Path) -> None:
    tables = np.array([[[5, 1], [1, 3]], [[4, 0], [2, 4]]])
    strict = MetricContract(empty="one", drop_truth=(0,))
    scores(tally(tables, strict), ["a", "b"], ["ground", "disc"], strict, resamples=2).save(tmp_path)
    assert read_contract(tmp_path / "scores.json") == strict.resolved(2)
    (tmp_path / "scores.json").write_text('{"contract_hash": "0"}')
    with pytest.raises(ConfigError, match="is not a mapping"):
        read_contract(tmp_path / "scores.json")


def test_contracts_have_names() -> None:
    assert contract_names() == ["default", "empty-one", "masked"]
    assert read_contract("default") == DEFAULT
    assert read_contract("empty-one") == MetricContract(empty="one")
    assert read_contract("masked") == MetricContract(drop_truth=(0,))
    for name in ("empty_one", "../contracts/masked", "metrics"):
        with pytest.raises(ConfigError, match="there is no contract"):
            read_contract(name)
    with pytest.raises(ConfigError, match="did you mean empty-one"):
        read_contract("empty_one")


def test_masked_is_what_miou_fg_masked_says_by_default() -> None:
    tables = np.random.default_rng(0).integers(0, 9, (5, 4, 4))
    masked = summary(tables, read_contract("masked"))
    assert masked["miou_fg"] == pytest.approx(summary(tables)["miou_fg_masked"])
    assert masked["miou_fg"] != pytest.approx(summary(tables)["miou_fg"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ignored: 0\n", "did you mean ignore?"),
        ("empty: perfect\n", "empty=perfect"),
        ("resolution: [4]\n", "resolution=[4]"),
        ("- 3\n", "not a mapping"),
        ("a: [\n", "not YAML"),
    ],
)
def test_a_bad_contract_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "contract.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_contract(file)
    assert says in str(caught.value)
    assert "contract.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_json_says_json(tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    file.write_text("empty: one\n")
    with pytest.raises(ConfigError, match=r"contract\.json is not JSON"):
        read_contract(file)


def test_a_missing_contract_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        read_contract(tmp_path / "nowhere.yaml")
