"""Labels of drawn shapes: which number a mask holds for them, and what dataset.yaml says about them by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maskwright.config import suggest
from maskwright.data.classes import IGNORE
from maskwright.data.colour_table import plain_name
from maskwright.data.sources.common import DataConfig, few
from maskwright.errors import ConfigError, DataError

MOST = IGNORE - 1
"""Labels: 0 is what no shape covers, 255 what is not known."""


def numbers_of(labels: Sequence[str]) -> dict[str, int]:
    """Label -> value in the drawn mask: 1, 2, ... in their order; 0 for the background, 255 for `__ignore__`."""
    numbers: dict[str, int] = {}
    for label in labels:
        kind = plain_name(label)
        special = {"background": 0, "ignore": IGNORE}
        numbers[label] = special[kind] if kind in special else len(set(numbers.values()) - {0, IGNORE}) + 1
    return numbers


def number_of(numbers: Mapping[str, int], label: str, where: object) -> int:
    """Raises DataError for a label that came after the data set was opened."""
    if label not in numbers:
        raise DataError(
            f"{where} has the label {label[:40]!r}, which was not there before", "open the data again"
        )
    return numbers[label]


def with_labels(
    config: DataConfig, labels: Sequence[str], source: str, *, background: bool = True
) -> DataConfig:
    """Classes and values of a data set whose masks are drawn; `values` may name labels instead of numbers.

    `background`: whether pixels that no shape covers are a class (otherwise they hold IGNORE). Raises ConfigError
    for names that are no label, DataError for more labels than fit.
    """
    numbers = numbers_of(labels)
    values: dict[int | str, str]
    if max(set(numbers.values()) - {IGNORE}, default=0) > MOST:
        raise DataError(f"{source} has {len(labels)} labels", f"at most {MOST} can be classes")
    if config.values is not None:
        values = _translated(config.values, numbers, source)
    elif config.classes is not None:
        missing = [name for name in labels if plain_name(name) not in (*config.classes, "ignore")]
        if missing:
            raise ConfigError(
                f"{source} has labels that classes does not list: {few(missing)}",
                f"list them, or say what they are: values: {{{missing[0]}: ignore}}",
            )
        values = {number: plain_name(name) for name, number in numbers.items()}
    else:
        values = {number: plain_name(name) for name, number in numbers.items()}
        found = dict.fromkeys(name for name in values.values() if name not in ("background", "ignore"))
        config = config.model_copy(update={"classes": (*(("background",) if background else ()), *found)})
    assert config.classes is not None or config.values is not None
    if background and "background" in (config.classes or ()):
        values = {0: "background", **values}
    if "*" not in values:
        values = {**values, IGNORE: "ignore"}
    return config.model_copy(update={"values": values})


def _translated(
    values: Mapping[int | str, str], numbers: Mapping[str, int], source: str
) -> dict[int | str, str]:
    by_name = {"background": 0} | dict(numbers)
    translated: dict[int | str, str] = {}
    for key, name in values.items():
        if isinstance(key, int) or key == "*" or (key.isdecimal() and key not in by_name):
            translated[key] = name
        elif key in by_name:
            translated[by_name[key]] = name
        else:
            raise ConfigError(
                f"values names {key!r}, which is no label of {source}", suggest(key, list(by_name))
            )
    return translated
