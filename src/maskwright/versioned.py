"""JSON with the version of its format, from files that may come from a stranger."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from maskwright.errors import RunError

Document = TypeVar("Document", bound=BaseModel)


def read_versioned(kind: type[Document], text: str, source: str, again: str) -> Document:
    """The document in `text`; `kind.format` has the version that is read as its default.

    Another version is refused: guessing would give wrong masks silently. Raises RunError that names `source`; `again`
    is the next step where it is damaged.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{source} is not JSON: {error}", again) from error
    version, reads = values.get("format") if isinstance(values, dict) else None, kind.model_fields["format"]
    if version != reads.default:
        raise RunError(
            f"{source} has format {version!r}, this version reads format {reads.default}",
            "is there a newer maskwright?",
        )
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise RunError(f"{source}: {where}: {first['msg']}", again) from error
