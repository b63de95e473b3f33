"""The model card: Markdown with the YAML header that model hubs read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import yaml

from maskwright.config import Recipe
from maskwright.data.classes import colour_text
from maskwright.errors import RunError
from maskwright.metrics.scores import Score, Scores
from maskwright.predict.model_folder import ModelSpec
from maskwright.report.words import changes

SHOWN = {"dice_image": "Dice per image", "iou_image": "IoU per image", "miou": "mean IoU"}

WHAT = """\
A {network} network that tells {classes} apart, pixel by pixel, in {kind} pictures of any size. It sees them at
{size} ({fit}).
"""

HERE = "path/to/this/folder"

USE = f"""\
## How to use

```python
import maskwright as mw

predictor = mw.Predictor.load("{HERE}")
mask = predictor("photo.jpg").mask  # uint8 class ids, H W
```

```sh
maskwright predict {HERE} photo.jpg --out masks
```
"""

LIMITS = """\
## Limits

The scores hold for pictures like those they were measured on. Other cameras, scenes or labelling rules give other
scores: measure on your own before you rely on it.
"""


def model_card(
    spec: ModelSpec,
    *,
    name: str,
    scores: Mapping[str, Scores] | None = None,
    recipe: Recipe | None = None,
    dataset: str = "",
) -> str:
    """What the model is, what it is worth and how it was made; `scores` by split, `dataset` a name.

    Names from outside are escaped: they can neither end a table cell nor become markup.
    """
    scores = scores or {}
    height, width = spec.input.size
    header = {
        "library_name": "maskwright",
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", spec.model.name],
        **({"model-index": [_index(name, dataset, scores)]} if scores else {}),
    }
    kind = {1: "grey", 3: "RGB", 4: "four-channel"}[spec.channels]
    parts = [
        f"---\n{_yaml(header)}---\n",
        f"# {_escape(name)}\n",
        WHAT.format(
            network=_escape(spec.model.name),
            classes=_listed(spec.classes),
            kind=kind,
            size=f"{height} × {width}",
            fit=spec.input.fit,
        ),
        USE,
        "## Scores\n",
        *([_score_table(scores)] if scores else ["Not evaluated yet.\n"]),
        "## Classes\n",
        _table(
            ("id", "class", "colour"),
            [
                (str(id), _escape(entry), f"`{colour_text(colour)}`")
                for id, (entry, colour) in enumerate(zip(spec.classes, spec.colours, strict=True))
            ],
        ),
        "## How it was made\n",
        _making(spec, recipe, dataset),
        LIMITS,
    ]
    return "\n".join(parts)


def hub_card(card: str, model: str, licence: str | None = None) -> str:
    """The card as it stands on a hub: how to use it from there, and the licence, where its owner names one.

    card: of `model_card`, perhaps edited, perhaps of another place on the hub. model: `hf:user/name`. licence: the
    hub's word for it, such as `apache-2.0`. Raises RunError where the header is no YAML.
    """
    text = re.sub(
        r"(?<=^## How to use$).*?(?=^## |\Z)",
        lambda use: re.sub(rf"{HERE}|hf:[\w.-]+/[\w.-]+(@[\w./-]+)?", model, use[0]),
        card,
        flags=re.DOTALL | re.MULTILINE,
    )
    if licence is None:
        return text
    header, rest = _split(text)
    return f"---\n{_yaml({**header, 'license': licence})}---\n{rest}"


def _split(card: str) -> tuple[dict[str, object], str]:
    """Header and text."""
    found = re.match(r"---\n(.*?\n)---\n", card, re.DOTALL)
    if found is None:
        return {}, card
    try:
        header = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise RunError(
            f"the header of README.md is no YAML: {' '.join(str(error).split())[:100]}", "mend it"
        ) from error
    return header if isinstance(header, dict) else {}, card[found.end() :]


def _yaml(header: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True)


def _score_table(scores: Mapping[str, Scores]) -> str:
    rows = [
        (_escape(split), str(entry.n_images), *(_score(entry[metric]) for metric in SHOWN))
        for split, entry in scores.items()
    ]
    contracts = sorted({entry.contract.hash for entry in scores.values()})
    known = any(math.isfinite(entry[metric].ci95[0]) for entry in scores.values() for metric in SHOWN)
    intervals = "With 95 % intervals" if known else "Too few pictures for 95 % intervals"
    legend = f"{intervals}; metric contract {', '.join(contracts)}.\n"
    return _table(("split", "pictures", *SHOWN.values()), rows) + "\n" + legend


def _making(spec: ModelSpec, recipe: Recipe | None, dataset: str) -> str:
    lines = [f"- data: {_escape(dataset)}, fingerprint `{spec.fingerprint}`" if dataset else ""]
    lines += [f"- weights of epoch {spec.epoch}" if spec.epoch else ""]
    if spec.temperature != 1:
        lines.append(
            f"- probabilities calibrated on the validation split: temperature {spec.temperature:.3f}"
        )
    if recipe is not None:
        lines += [f"- {_code(f'{key}={value}')}" for key, value in changes(recipe)]
    return "\n".join(line for line in lines if line) + "\n"


def _index(name: str, dataset: str, scores: Mapping[str, Scores]) -> dict[str, object]:
    """The `model-index` entry of a hub's header."""
    return {
        "name": name,
        "results": [
            {
                "task": {"type": "image-segmentation"},
                "dataset": {"name": dataset or "unknown", "type": "custom", "split": split},
                "metrics": [
                    {"type": metric, "name": SHOWN[metric], "value": round(entry[metric].value, 4)}
                    for metric in SHOWN
                    if not math.isnan(entry[metric].value)
                ],
            }
            for split, entry in scores.items()
        ],
    }


def _score(score: Score) -> str:
    if math.isnan(score.value):
        return "–"
    low, high = score.ci95
    return f"{score.value:.3f}" + ("" if math.isnan(low + high) else f" ({low:.3f}–{high:.3f})")


def _listed(names: Sequence[str]) -> str:
    escaped = [_escape(name) for name in names]
    return f"{', '.join(escaped[:-1])} and {escaped[-1]}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _code(text: str) -> str:
    """One line between backticks, where nothing but a backtick is markup."""
    line = " ".join(text.replace("`", "'").split())
    return f"`{line}`"


def _escape(text: str) -> str:
    """One line in which nothing is markup."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(text.split()))
