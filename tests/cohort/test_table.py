"""The reading of tables, whatever they hold: what was written comes back, and nothing but an InputError is raised."""

import csv
import io
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lymphtune.cohort.clinical import read_clinical
from lymphtune.cohort.cohort import REFERENCE_DATE
from lymphtune.cohort.folders import composed
from lymphtune.cohort.layout import STUDY, Layout
from lymphtune.cohort.table import open_table
from lymphtune.doctor import TABLE_CHECKS
from lymphtune.doctor.gathering import gather_folder
from lymphtune.errors import InputError

ENCODINGS = ("utf-8", "latin-1", "cp1252")
SEPARATORS = (",", ";", "\t", "|")
WRITERS = (  # how they quote, how they end a line: to quote as little as can be, a writer has to end it with both
    (csv.QUOTE_MINIMAL, "\r\n"),
    (csv.QUOTE_ALL, "\n"),
    (csv.QUOTE_ALL, "\r\n"),
    (csv.QUOTE_NONNUMERIC, "\n"),
)
ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
LAYOUTS = st.builds(
    lambda separator, encoding, decimal, missing: Layout(
        separator=separator, encoding=encoding, decimal=decimal, missing=missing
    ),
    st.sampled_from(SEPARATORS),
    st.sampled_from(ENCODINGS),
    st.sampled_from(".,"),
    st.sampled_from(([], ["NA"])),
)


def texts(encoding: str, **options: int) -> st.SearchStrategy[str]:
    """Return any texts of an encoding; a NUL is no text, and a byte order mark is taken off."""
    return st.text(st.characters(codec=encoding, exclude_characters="\0\ufeff"), **options)


def plain_text(text: str) -> str:
    """Return the text as it is read: without spaces around it, in composed characters."""
    return composed(text.strip())


@st.composite
def tables(draw: st.DrawFn) -> tuple[Layout, list[list[str]]]:
    """Return a layout, and a header and rows that its encoding can write."""
    layout = draw(LAYOUTS)
    extra = draw(st.lists(texts(layout.encoding, min_size=1, max_size=8).map(plain_text), max_size=3, unique=True))
    header = draw(st.permutations([*STUDY.required, *(name for name in extra if name not in STUDY.required)]))
    row = st.lists(texts(layout.encoding, max_size=12), min_size=len(header), max_size=len(header))
    return layout, [header, *draw(st.lists(row, max_size=6))]


@given(table=tables(), how=st.sampled_from(WRITERS))
@ONE_FOLDER
def test_what_was_written_comes_back(
    table: tuple[Layout, list[list[str]]], how: tuple[int, str], tmp_path: Path
) -> None:
    (layout, (header, *rows)), (quoting, end) = table, how
    stream, path = io.StringIO(newline=""), tmp_path / "table.csv"
    writer = csv.writer(stream, delimiter=layout.separator, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerows([header, *rows])
    path.write_bytes(stream.getvalue().encode(layout.encoding))
    kept = [(number, [plain_text(text) for text in row]) for number, row in enumerate(rows, start=2)]
    assert [(number, list(values.values())) for number, values in open_table(path, layout).rows] == [
        (number, row) for number, row in kept if any(row)
    ]


def test_characters_are_composed_within_values(tmp_path: Path) -> None:
    """A Greek question mark is composed to a semicolon: it must not part two values."""
    (tmp_path / "table.csv").write_text("ID;LABEL;DOB;LYMPH_COUNT;note\nPe\u0301;0;1/1/1950;5;why\u037e\n")
    layout = STUDY.model_copy(update={"separator": ";"})
    ((_, values),) = open_table(tmp_path / "table.csv", layout).rows
    assert values["ID"] == "P\u00e9" and values["note"] == "why;"


@given(data=st.binary(max_size=400), layout=LAYOUTS)
@ONE_FOLDER
def test_of_any_bytes_a_refusal_is_an_input_error(data: bytes, layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    try:
        list(open_table(path, layout).rows)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@given(rows=st.lists(st.lists(st.text(max_size=12), max_size=7), max_size=5), layout=LAYOUTS)
@ONE_FOLDER
def test_of_any_rows_a_refusal_is_an_input_error(rows: list[list[str]], layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    lines = [layout.separator.join(row) for row in [STUDY.required, *rows]]
    path.write_bytes("\n".join(lines).encode(layout.encoding, "replace"))
    try:
        table = read_clinical(path, REFERENCE_DATE, layout)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert table["patient"].is_unique and table["label"].isin((-1, 0, 1)).all()


VALUES = st.sampled_from(
    [
        "",
        "P1",
        "p1",
        "P01",
        "../x",
        "0",
        "1.0",
        "-1",
        "F",
        "female",
        "31/12/1950",
        "1-1-1950",
        "1950-12-31",
        "18000",
        "4.5",
        "4,5",
        "4500",
        "1e999",
        "NA",
        "=1+1",
        "\u0661",
        "x" * 200,
    ]
)


@given(rows=st.lists(st.lists(VALUES | st.text(max_size=5), min_size=4, max_size=6), max_size=8), layout=LAYOUTS)
@ONE_FOLDER
def test_the_doctor_goes_on_whatever_the_table_holds(rows: list[list[str]], layout: Layout, tmp_path: Path) -> None:
    """Whoever reads it: no check raises, and where reading refuses, an error is found."""
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=layout.separator).writerows([STUDY.required, *rows])
    (tmp_path / STUDY.table).write_bytes(stream.getvalue().encode(errors="replace"))
    evidence = gather_folder(tmp_path, REFERENCE_DATE, pictures=False)
    found = [*evidence.reading_findings, *(finding for check in TABLE_CHECKS for finding in check(evidence))]
    try:
        read_clinical(tmp_path / STUDY.table, REFERENCE_DATE)
    except InputError:
        assert any(finding.severity == "error" for finding in found)


@given(data=st.binary(max_size=300))
@ONE_FOLDER
def test_the_doctor_goes_on_whatever_bytes_the_table_is(data: bytes, tmp_path: Path) -> None:
    (tmp_path / STUDY.table).write_bytes(data)
    evidence = gather_folder(tmp_path, REFERENCE_DATE, pictures=False)
    assert any(finding.severity == "error" for finding in evidence.reading_findings)
