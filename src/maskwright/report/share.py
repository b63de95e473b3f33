"""A model goes to a hub, with a card that says how to use it from there."""

from __future__ import annotations

from pathlib import Path

from maskwright.errors import RunError
from maskwright.predict import hub
from maskwright.predict.model_folder import find_model, load_model
from maskwright.report.card import hub_card, model_card


def share(
    model: str | Path, to: str, *, private: bool = False, licence: str | None = None, message: str = ""
) -> hub.Pushed:
    """Push a run's best weights, or a model folder, to `hf:user/name`, in one commit.

    Before anything is sent, the model is loaded: what is broken stays here. private and message as in `hub.push`;
    licence: the hub's word for it, such as `apache-2.0`, written on the card. Raises RunError.
    """
    place = hub.HubModel.parse(to)
    if place.revision is not None:
        raise RunError(f"{to} names a revision", f"push to {hub.PREFIX}{place.repo}, and tag it on its page")
    folder = find_model(model)
    spec, _ = load_model(folder)
    card = folder / hub.CARD
    try:
        text = card.read_text(encoding="utf-8") if card.is_file() else model_card(spec, name=place.repo)
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(
            f"{card} cannot be read: {error}", "mend it, or remove it and it is made anew"
        ) from error
    options = {"message": message} if message else {}
    return hub.push(folder, place.repo, card=hub_card(text, str(place), licence), private=private, **options)
