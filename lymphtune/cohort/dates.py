"""Parse dates in the format that a table's layout names."""

import re
from datetime import date

SLASHED = re.compile(r"(?P<month>[0-9]{1,2})/(?P<day>[0-9]{1,2})/(?P<year>[0-9]{4})")
DASHED = re.compile(r"(?P<day>[0-9]{1,2})-(?P<month>[0-9]{1,2})-(?P<year>[0-9]{4})")
MONTH_FIRST = re.compile(r"(?P<month>[0-9]{1,2})(?P<sep>[-/.])(?P<day>[0-9]{1,2})(?P=sep)(?P<year>[0-9]{4})")
DAY_FIRST = re.compile(r"(?P<day>[0-9]{1,2})(?P<sep>[-/.])(?P<month>[0-9]{1,2})(?P=sep)(?P<year>[0-9]{4})")
ISO = re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})")

READINGS = {"study": (SLASHED, DASHED), "month_first": (MONTH_FIRST,), "day_first": (DAY_FIRST,), "iso": (ISO,)}
WRITTEN = {"study": "M/D/YYYY or DD-MM-YYYY", "month_first": "M/D/YYYY", "day_first": "D/M/YYYY", "iso": "YYYY-MM-DD"}


def read_date(text: str, reading: str = "study") -> date | None:
    """The date of a text in the format `reading` (a key of READINGS); None if it is not one."""
    for form in READINGS[reading]:
        if match := form.fullmatch(text):
            try:
                return date(int(match["year"]), int(match["month"]), int(match["day"]))
            except ValueError:
                return None
    return None
