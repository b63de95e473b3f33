from __future__ import annotations

from typing import Annotated

import typer

from maskwright.cli.answer import Answer, table


def cache(
    action: Annotated[
        str | None, typer.Argument(metavar="[clean]", help="clean: remove all decoded data.")
    ] = None,
) -> Answer:
    """Where decoded data lie; `clean` removes them.

    They are made again when they are needed."""
    from maskwright.data.store import clean_stores, list_stores
    from maskwright.errors import ConfigError
    from maskwright.files import cache_folder

    folder = cache_folder()
    if action == "clean":
        freed = clean_stores()
        return Answer({"folder": folder, "freed": freed}, f"{freed / 2**20:.1f} MiB freed in {folder}")
    if action is not None:
        raise ConfigError(f"maskwright cache has no {action!r}", "did you mean clean?")
    stores = list_stores()
    rows = [
        (
            store.dataset,
            store.images,
            f"{store.size[0]} x {store.size[1]}",
            store.fit,
            f"{store.bytes / 2**20:.1f}",
        )
        for store in stores
    ]
    document = {"folder": folder, "stores": [vars(store) for store in stores]}
    text = table(("data", "pictures>", "size>", "fit", "MiB>"), rows, title=f"Decoded data in {folder}")
    return Answer(document, text if rows else f"Nothing is decoded yet; the place is {folder}")
