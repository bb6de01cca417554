"""The errors of this package. Messages name the series and field, or the file and key."""

from __future__ import annotations


class KronosError(ValueError):
    """Base of all errors of this package; a ValueError, as in the authors' package."""


class InputError(KronosError):
    """Invalid bars, timestamps or arguments."""


class InputWarning(UserWarning):
    """Input or arguments of which a part is not used, or of a kind that the weights were not trained for."""


class ScaleWarning(InputWarning):
    """Prices so small that the published normalisation maps their moves to nearly 0."""


class CheckpointError(KronosError):
    """A folder or hub repository that is not a valid checkpoint of the requested model."""


class MismatchError(KronosError):
    """A tokenizer and a predictor that do not belong together, or input prepared with another normalisation."""
