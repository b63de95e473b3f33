"""What an audit has to say: findings, and the new dataset.yaml that mends what can be mended there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""error: training refuses it, or scores would be wrong. warning: probably not meant. note: worth knowing."""


@dataclass(frozen=True)
class Evidence:
    """One case of a finding."""

    ids: tuple[str, ...]
    """The item, or the items that belong together, such as a picture and its twin."""
    says: str


@dataclass(frozen=True)
class Mending:
    """What a dataset.yaml would say to be rid of a finding."""

    exclude: tuple[str, ...] = ()
    values: Mapping[int | str, str] = field(default_factory=dict)
    """More raw values and what they mean."""
    classes: tuple[str, ...] = ()
    """All classes, where dataset.yaml named none."""

    def __bool__(self) -> bool:
        return bool(self.exclude or self.values or self.classes)


@dataclass(frozen=True)
class Finding:
    """One kind of fault, with all of its cases."""

    id: str
    severity: Severity
    title: str
    cases: tuple[Evidence, ...]
    advice: str
    mending: Mending = Mending()
    """Empty where only a person can decide."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The items concerned, each once."""
        return tuple(dict.fromkeys(name for case in self.cases for name in case.ids))


def joined(findings: Sequence[Finding]) -> list[Finding]:
    """One finding of each kind, with the cases of all that are of that kind."""
    kinds: dict[str, Finding] = {}
    for finding in findings:
        before = kinds.get(finding.id)
        if before is not None:
            exclude = dict.fromkeys((*before.mending.exclude, *finding.mending.exclude))
            finding = replace(
                before,
                cases=(*before.cases, *finding.cases),
                mending=replace(before.mending, exclude=tuple(exclude)),
            )
        kinds[finding.id] = finding
    return list(kinds.values())


def ranked(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Errors first; then what concerns most items."""
    return tuple(
        sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), -len(each.ids), each.id))
    )


def mended(source: Mapping[str, object], findings: Sequence[Finding]) -> dict[str, object]:
    """The keys of a dataset.yaml with all that errors and warnings propose; notes change nothing."""
    keys = {key: value for key, value in source.items() if key != "fingerprint"}
    exclude, values = list(_strings(keys.get("exclude"))), dict(_mapping(keys.get("values")))
    for finding in findings:
        if finding.severity == "note":
            continue
        if finding.mending.classes:
            keys["classes"] = list(finding.mending.classes)
        values |= {key: name for key, name in finding.mending.values.items() if key not in values}
        exclude += finding.mending.exclude
    if values:
        keys["values"] = values
    if exclude:
        keys["exclude"] = list(dict.fromkeys(exclude))
    return keys


def _strings(value: object) -> Sequence[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else []


def _mapping(value: object) -> Mapping[object, object]:
    return value if isinstance(value, Mapping) else {}
