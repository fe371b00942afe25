"""Numbers as people read them."""

import math

from lymphtune.cohort import folds
from lymphtune.statistics.bootstrap import Interval

CLASSES = tuple(folds.CLASSES)  # by label


def short(value: float, digits: int = 3) -> str:
    """Return a number; empty where it is none."""
    return "" if value != value else f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """Return a share in whole per cent, never a certainty that rounding made."""
    if 0 < share < 0.01 or 0.99 < share < 1:
        return "under 1 %" if share < 0.5 else "over 99 %"
    return f"{100 * share:.0f} %"


def bounded(interval: Interval, digits: int = 2) -> str:
    """Return 0.914 (0.85 to 0.96); digits: of the bounds."""
    return f"{interval.value:.3f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def changed(difference: Interval) -> str:
    """Return +0.139 (+0.05 to +0.23)."""
    return f"{difference.value:+.3f} ({difference.low:+.2f} to {difference.high:+.2f})"


def measured(value: float, digits: int) -> str:
    """Return a measurement to so many digits, or that there is none."""
    return "unknown" if math.isnan(value) else f"{value:.{digits}f}"
