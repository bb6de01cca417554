"""The base of every section of the settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the settings. Unknown keys are an error; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
