"""`candlecast fetch`: the hub models of a profile, complete and verified in the cache of the hub, pinned in the home.

Not here: downloads and verification of one model (resources.hub_download), and the lock (resources.hub_models).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resources.errors import CandlecastError
from resources.hub_download import Fetched, fetch_model
from resources.hub_models import NamedModel, hub_reference, named_models
from resources.layout import Home
from resources.locks import exclusive_lock
from resources.settings import Settings


def fetch(settings: Settings, names: Sequence[str], update: bool) -> dict[str, Any]:
    """Fetch the models of a profile, or those that are named.

    Args:
        names: models of the profile, or names on the hub, `owner/name` or `owner/name@revision`; none: all models of
            the profile.
        update: move the pins to the newest commits.

    Raises:
        CandlecastError: a name is unknown, or a model could not be fetched; the others were.
    """
    home, wanted = Home(settings.home), _wanted(settings, names)
    fetched: list[Fetched] = []
    problems: list[str] = []
    with exclusive_lock(home.root / "hub.lock"):
        for one in wanted:
            try:
                fetched.append(fetch_model(home, one.repository, one.revision, update))
            except CandlecastError as error:
                problems.append(f"{one.key}: {error}")
    if problems:
        raise CandlecastError("\n".join([*map(_as_line, fetched), *problems]))
    nothing = f"profile {settings.profile} names no model of the hub: nothing to fetch"
    text = "\n".join(map(_as_line, fetched)) or nothing
    return {"models": [_as_json(one) for one in fetched], "text": text}


def _wanted(settings: Settings, names: Sequence[str]) -> list[NamedModel]:
    """The models to fetch, each repository and revision once."""
    own = named_models(settings)
    found = [one for name in names for one in _named(name, own, settings)] if names else own
    return list({(one.repository, one.revision): one for one in reversed(found)}.values())[::-1]


def _named(name: str, own: Sequence[NamedModel], settings: Settings) -> list[NamedModel]:
    if found := [one for one in own if name in (one.model, one.repository)]:
        return found
    if reference := hub_reference(name, settings.root):
        return [NamedModel(name, name, *reference)]
    known = ", ".join(one.model for one in own) or "none"
    raise CandlecastError(
        f"{name} is no model of profile {settings.profile} that comes from the hub ({known}), and no name on the hub "
        "such as amazon/chronos-2"
    )


def _as_line(one: Fetched) -> str:
    model = one.model
    size = f"{len(model.files)} files, {model.size / 2**20:,.1f} MiB"
    done = f"downloaded {', '.join(one.downloaded)}" if one.downloaded else "complete already"
    moved = f", moved from {one.moved_from[:12]}" if one.moved_from else ""
    return f"{model.repository} {model.revision} at {model.commit[:12]} of {model.published}{moved}: {size}, {done}"


def _as_json(one: Fetched) -> dict[str, object]:
    model = one.model
    return {
        "repository": model.repository,
        "revision": model.revision,
        "commit": model.commit,
        "published": model.published,
        "licence": model.licence,
        "folder": str(model.folder),
        "bytes": model.size,
        "downloaded": one.downloaded,
        "moved_from": one.moved_from,
    }
