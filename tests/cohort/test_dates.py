"""Dates in each of the four readings: every day comes back from every way to write it, and no other text is one."""

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphtune.cohort.dates import READINGS, read_date

DAYS = st.dates(date(1, 1, 1))
SIGNS = st.sampled_from("-/.")
ORDER = {"month_first": "mdy", "day_first": "dmy", "iso": "ymd"}


def written(day: date, order: str, sign: str, padded: bool) -> str:
    parts = {"y": f"{day.year:04d}", "m": f"{day.month:02d}", "d": f"{day.day:02d}"}
    if not padded:
        parts |= {"m": str(day.month), "d": str(day.day)}
    return sign.join(parts[letter] for letter in order)


@pytest.mark.parametrize("reading", ["month_first", "day_first"])
@given(day=DAYS, sign=SIGNS, padded=st.booleans())
def test_a_day_comes_back_in_the_order_that_it_was_written_in(reading: str, day: date, sign: str, padded: bool) -> None:
    assert read_date(written(day, ORDER[reading], sign, padded), reading) == day


@given(day=DAYS, padded=st.booleans())
def test_the_studys_reading_goes_by_the_sign(day: date, padded: bool) -> None:
    assert read_date(written(day, "mdy", "/", padded)) == day
    assert read_date(written(day, "dmy", "-", padded)) == day
    assert read_date(written(day, "dmy", ".", padded)) is None


@given(day=DAYS, sign=SIGNS)
def test_an_iso_date_is_padded_and_has_dashes(day: date, sign: str) -> None:
    assert read_date(written(day, "ymd", "-", True), "iso") == day
    assert (read_date(written(day, "ymd", sign, True), "iso") == day) == (sign == "-")
    if day.month < 10 or day.day < 10:
        assert read_date(written(day, "ymd", "-", False), "iso") is None


@given(day=DAYS, sign=SIGNS, padded=st.booleans())
def test_two_readings_differ_only_where_the_day_could_be_a_month(day: date, sign: str, padded: bool) -> None:
    other = read_date(written(day, "dmy", sign, padded), "month_first")
    assert (other is not None) == (day.day <= 12)
    assert other is None or (other == day) == (day.day == day.month)


NEARLY = st.from_regex(re.compile(r"[0-9]{1,4}[-/. ][0-9]{1,3}[-/. ][0-9]{1,4}\Z"), fullmatch=True)


@pytest.mark.parametrize("reading", READINGS)
@given(text=st.text(max_size=12) | NEARLY)
def test_whatever_the_text_a_date_is_made_of_its_own_numbers(reading: str, text: str) -> None:
    day = read_date(text, reading)
    if day is not None:
        assert text.isascii() and sorted(map(int, re.findall("[0-9]+", text))) == sorted([day.year, day.month, day.day])
        assert len(re.findall("[0-9]{4}", text)) == 1


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    "text",
    ["", "1/2/50", "1/2/19500", "1-2/1950", "\u0661/2/1950", " 1/2/1950", "1/2/1950 00:00", "2/30/1950", "0/1/1950"],
)
def test_what_is_no_date_in_any_reading(reading: str, text: str) -> None:
    assert read_date(text, reading) is None
