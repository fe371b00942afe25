"""Validation of computed probabilities: rounding errors are clipped, any other value outside [0, 1] is an error.

A mean of float32 probabilities can exceed 1 by a few times 1e-7, because its weights sum to 1 only approximately.
"""

import numpy as np

from lymphtune.errors import InputError

ROUNDING = 1e-5  # tolerated distance of a computed probability from [0, 1]


def as_probabilities(values: np.ndarray, where: object, remedy: str, of: str = "patients") -> np.ndarray:
    """Return the values clipped to [0, 1], of any shape.

    Raises InputError, which starts with `where` and ends with `remedy`, where a value is NaN or lies outside
    [0, 1] by more than ROUNDING; `of` names what is counted.
    """
    values = np.asarray(values)
    outside = ~((values >= -ROUNDING) & (values <= 1 + ROUNDING))  # NaN compares as False
    if outside.any():
        raise InputError(f"{where}: {_finding(values[outside], of)}; {remedy}")
    return values.clip(0, 1)


def _finding(outside: np.ndarray, of: str) -> str:
    """Return how many values are wrong, and the most extreme of them."""
    numbers = outside[~np.isnan(outside)]
    extremes = []
    if (numbers > 1).any():
        extremes.append(f"largest {numbers.max():.6g}")
    if (numbers < 0).any():
        extremes.append(f"smallest {numbers.min():.6g}")
    if n_missing := len(outside) - len(numbers):
        extremes.append(f"{n_missing} are NaN")
    return f"returned values outside [0, 1] for {len(outside)} {of} ({', '.join(extremes)})"
