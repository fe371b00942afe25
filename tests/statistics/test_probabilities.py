"""Computed probabilities: rounding is clipped, and what is no probability is refused with its count."""

import numpy as np
import pytest

from lymphtune.errors import InputError
from lymphtune.statistics.probabilities import ROUNDING, as_probabilities


def test_rounding_is_clipped() -> None:
    float32_mean = np.float32(1) + np.finfo(np.float32).eps  # 1.0000001192
    given_P = np.array([float32_mean, -1e-9, 0.25, 1 + ROUNDING / 2, 0.0, 1.0])
    np.testing.assert_array_equal(as_probabilities(given_P, "here", "search again"), [1, 0, 0.25, 1, 0, 1])


@pytest.mark.parametrize("shape", [(0,), (2, 0), (2, 3)])
def test_any_shape_is_taken(shape: tuple[int, ...]) -> None:
    assert as_probabilities(np.full(shape, 0.5), "here", "search again").shape == shape


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ([0.5, 1.2, 1.1], r"for 2 patients \(largest 1.2\)"),
        ([0.5, -0.3], r"for 1 patients \(smallest -0.3\)"),
        ([np.nan, 0.5, np.nan], r"for 2 patients \(2 are NaN\)"),
        ([np.inf, -1, np.nan], r"for 3 patients \(largest inf, smallest -1, 1 are NaN\)"),
        ([1 + 2 * ROUNDING], r"for 1 patients \(largest 1.00002\)"),
    ],
)
def test_what_is_no_probability_is_refused(values: list[float], finding: str) -> None:
    with pytest.raises(InputError, match=rf"^fold-0: returned values outside \[0, 1\] {finding}; search again$"):
        as_probabilities(np.array(values), "fold-0", "search again")
