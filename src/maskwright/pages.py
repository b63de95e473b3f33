"""What the HTML pages share: one file each that opens offline, and lets nothing run but its own few lines."""

from __future__ import annotations

import base64
import hashlib


def render(package: str, template: str, script: str | None = None, **values: object) -> str:
    """A template of `package`, which may use those of `maskwright.report` as well; all `values` are escaped.

    script: a template whose text the page gets as `script`, word for word, with `script_hash` for its security policy.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    pages = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("maskwright.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    if script is not None:
        text = pages.get_template(script).render()
        digest = hashlib.sha256(text.encode()).digest()
        values |= {"script": Markup(text), "script_hash": base64.b64encode(digest).decode()}
    return pages.get_template(template).render(**values)


def inline(content: bytes) -> str:
    """A data: address for JPEG, PNG or SVG bytes."""
    kind = "jpeg" if content[:2] == b"\xff\xd8" else "png" if content[:4] == b"\x89PNG" else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
