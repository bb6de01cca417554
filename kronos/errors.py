"""The errors of this package. Each message names the series and the field it is about."""

from __future__ import annotations


class KronosError(ValueError):
    """Base of everything that this package refuses. A ValueError, so that old callers keep catching it."""


class InputError(KronosError):
    """Bars, stamps or settings that cannot be forecast from as they are."""


class ScaleWarning(UserWarning):
    """Prices so small that the published normalisation leaves nothing of their moves."""


class CheckpointError(KronosError):
    """A folder or hub repository that is no Kronos checkpoint, or not the one that was expected."""


class MismatchError(KronosError):
    """A tokenizer and a predictor that do not belong together, or input prepared for another version."""
