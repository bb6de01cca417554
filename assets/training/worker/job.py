"""What a fitting process is told, and what it answers: JSON files beside the work, lines of JSON on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from resources.settings import (
    Chronos2Settings,
    ComputeSettings,
    PredictorSettings,
    TokenizerSettings,
    WindowSettings,
)

JobKind = Literal["kronos_tokenizer", "kronos_predictor", "chronos2_model"]
RESULT, MODEL = "result.json", "model"


class Job(BaseModel):
    """One model to make.

    Attributes:
        arrays: the folder of training arrays. With no epochs nothing is learnt from them, only measured.
        base: a folder or hub name of weights to start from; none: from scratch.
        tokenizer: the folder of the frozen tokenizer (predictor only).
        work: where states are kept while it runs; a killed job with the same folder goes on from there.
        out: an empty folder for `model/` and `result.json`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: JobKind
    seed: int
    windows: WindowSettings
    tokenizer_settings: TokenizerSettings = TokenizerSettings()
    predictor_settings: PredictorSettings = PredictorSettings()
    chronos2_settings: Chronos2Settings = Chronos2Settings()
    compute: ComputeSettings = ComputeSettings()
    arrays: Path
    base: str | None = None
    revision: str | None = None
    tokenizer: Path | None = None
    work: Path
    out: Path


class Result(BaseModel):
    """What came of it.

    Attributes:
        curves: what `assets.training.fit.trainer.Curves` holds, as plain data.
        scores: numbers by name: losses, codebook use, reconstruction error by field.
        parameters: how many weights the model has.
    """

    curves: dict[str, Any] = Field(default_factory=dict)
    scores: dict[str, Any] = Field(default_factory=dict)
    parameters: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    device: str = ""
