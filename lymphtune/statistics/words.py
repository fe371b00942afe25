"""Numbers formatted for text and tables."""

import math

from lymphtune.cohort import folds
from lymphtune.statistics.bootstrap import Interval

CLASSES = tuple(folds.CLASSES)  # by label


def short(value: float, digits: int = 3) -> str:
    """Format a number; NaN becomes the empty text."""
    return "" if value != value else f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """Format a number with its sign, a typographic minus included."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """Format a fraction in whole per cent; one that would round to 0 % or 100 % becomes "under 1 %" or "over 99 %"."""
    if 0 < share < 0.01 or 0.99 < share < 1:
        return "under 1 %" if share < 0.5 else "over 99 %"
    return f"{100 * share:.0f} %"


def bounded(interval: Interval, digits: int = 2) -> str:
    """Format an interval as 0.914 (0.85 to 0.96); digits: number of decimals of the bounds."""
    return f"{interval.value:.3f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def changed(difference: Interval) -> str:
    """Format the interval of a difference as +0.139 (+0.05 to +0.23)."""
    return f"{difference.value:+.3f} ({difference.low:+.2f} to {difference.high:+.2f})"


def measured(value: float, digits: int) -> str:
    """Format a measurement with `digits` decimals; NaN becomes "unknown"."""
    return "unknown" if math.isnan(value) else f"{value:.{digits}f}"
