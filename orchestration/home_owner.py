"""The profile that a home folder belongs to: bars of two profiles in one home would enter each other's training sets.

Profiles that read the same bars may share a home.
"""

import json
from collections.abc import Mapping

from assets.market.ingest.lake import Lake
from resources.errors import CandlecastError
from resources.integrity import read_kept_json
from resources.layout import Home
from resources.publish import publish_bytes
from resources.settings import Settings

_BARS = ("source", "path", "exchange")


def claim_home(settings: Settings) -> None:
    """Record the profile that the home belongs to. A home without bars belongs to whoever uses it next.

    Raises:
        CandlecastError: the home holds the bars of another profile.
    """
    home, own = Home(settings.home), _owner(settings)
    owner = read_kept_json(home.owner, home.root)
    if sources := _stored_sources(home):
        other = owner is not None and owner["profile"] != settings.profile
        if owner is not None and any(owner[name] != own[name] for name in _BARS) and other:
            raise CandlecastError(
                f"{settings.home} belongs to profile {owner['profile']!r}, whose bars come from {_text(owner)}; those "
                f"of {settings.profile!r} come from {_text(own)}. {_remedy(settings)}"
            )
        if other:
            return
        # A home of an earlier version has no owner. A drop folder's files have the source `files`.
        foreign = sources - {settings.market.source, *(["files"] if settings.market.drop else [])}
        if owner is None and foreign:
            raise CandlecastError(
                f"{settings.home} holds bars of the source {', '.join(sorted(foreign))}, not of "
                f"{settings.market.source!r}. {_remedy(settings)}"
            )
    if owner != own:
        publish_bytes(home.owner, json.dumps(own, indent=1).encode())


def _owner(settings: Settings) -> dict[str, str | None]:
    market = settings.market.model_dump(mode="json", include=set(_BARS))
    return {"profile": settings.profile, **{name: market[name] for name in _BARS}}


def _text(owner: Mapping[str, str | None]) -> str:
    return f"{owner['source']} {owner['path']}" if owner["path"] else str(owner["source"])


def _stored_sources(home: Home) -> set[str]:
    return {payload.source for batch in Lake(home).batches() for payload in batch.payloads}


def _remedy(settings: Settings) -> str:
    own = settings.home / settings.profile
    return f"Give profile {settings.profile!r} a home of its own: --home {own}, or CANDLECAST_HOME"
