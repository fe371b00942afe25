"""Dates and times as a person writes them, on the command line and in Python."""

import math
from datetime import date, datetime
from typing import Any

REFERENCE_DATE = date(2020, 1, 1)  # ages are counted to this day unless another is given
UNITS_S = {"s": 1, "m": 60, "h": 3600}


def a_day(given: Any) -> date:
    """Return a date, or the one written YYYY-MM-DD; raises ValueError."""
    if isinstance(given, date) and not isinstance(given, datetime):
        return given
    try:
        return date.fromisoformat(given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{given!r} is not a date; expected YYYY-MM-DD") from error


def in_seconds(given: Any) -> float:
    """Return seconds, of a number of them or of 90, 90s, 30m or 2h; raises ValueError."""
    unit = 1
    try:
        if isinstance(given, bool):
            raise ValueError
        number = given
        if isinstance(given, str):
            number, unit = (given[:-1], UNITS_S[given[-1:]]) if given[-1:] in UNITS_S else (given, 1)
        seconds = float(number) * unit
    except (TypeError, ValueError) as error:
        raise ValueError(f"{given!r} is not a time; expected 90s, 30m or 2h") from error
    if not math.isfinite(seconds):
        raise ValueError(f"{given!r} is not a time; expected 90s, 30m or 2h")
    return seconds
