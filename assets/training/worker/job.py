"""The job that a training process runs and the result that it writes: JSON files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from resources.settings import (
    Chronos2Settings,
    ComputeSettings,
    PredictorSettings,
    Settings,
    TokenizerSettings,
    WindowSettings,
)

JobKind = Literal["kronos_tokenizer", "kronos_predictor", "chronos2_model"]
RESULT, MODEL = "result.json", "model"


class TrainingJob(BaseModel):
    """One model to train.

    Attributes:
        settings: complete, as the parent uses them: the process reads neither the settings file nor the environment.
        arrays: the folder of training arrays. With no epochs they are only used to measure the base.
        base: the folder of weights to start from; none: from scratch.
        tokenizer: the folder of the frozen tokenizer (predictor only).
        work: where states are saved during training; a killed job with the same folder resumes from them.
        out: an empty folder for `model/` and `result.json`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: JobKind
    settings: Settings
    arrays: Path
    base: str | None = None
    tokenizer: Path | None = None
    work: Path
    out: Path

    @property
    def seed(self) -> int:
        return self.settings.seed

    @property
    def windows(self) -> WindowSettings:
        return self.settings.windows

    @property
    def tokenizer_settings(self) -> TokenizerSettings:
        return self.settings.tokenizer

    @property
    def predictor_settings(self) -> PredictorSettings:
        return self.settings.predictor

    @property
    def chronos2_settings(self) -> Chronos2Settings:
        return self.settings.chronos2

    @property
    def compute(self) -> ComputeSettings:
        return self.settings.compute


class TrainingResult(BaseModel):
    """What a training process measured; the model is in `model/` beside it.

    Attributes:
        curves: the fields of `assets.training.fit.curves.TrainingCurves`.
        scores: numbers by name: losses, codebook use, reconstruction error by field.
        parameters: number of parameters of the model.
        versions: library versions by name.
    """

    curves: dict[str, Any] = Field(default_factory=dict)
    scores: dict[str, Any] = Field(default_factory=dict)
    parameters: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    device: str = ""
