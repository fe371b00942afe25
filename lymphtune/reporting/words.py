"""Numbers as people read them."""

from lymphtune.statistics.bootstrap import Interval


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


def bounded(interval: Interval, digits: int = 3) -> str:
    """Return 0.914 (0.85 to 0.96)."""
    return f"{interval.value:.{digits}f} ({interval.low:.2f} to {interval.high:.2f})"
