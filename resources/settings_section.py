"""The base of every section of the settings, and the types that sections share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of the settings. Unknown keys are an error; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
