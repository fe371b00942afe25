"""A submission looked over: every kind of finding, and nothing found in one that is right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lymphtune.cli import main
from lymphtune.cohort import Cohort, load_cohort
from lymphtune.ensembling import submission
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.submission import Report, check_submission, submission_report
from lymphtune.errors import InputError
from lymphtune.runs.run import Run

GOOD = "ID,Predicted\nP6,0\nP11,1\nP15,1\n"  # the tiny cohort's patients to predict, in its order


@pytest.fixture
def check(tiny_cohort: Cohort, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Return the report on a file of this content."""

    def report(content: str | bytes, cohort: Cohort = tiny_cohort) -> Report:
        path = tmp_path / "submission.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return check_submission(path, cohort)

    return report


def large(tiny_cohort: Cohort, n_to_predict: int, n_tumoral: int, n_reactive: int) -> Cohort:
    """Return a cohort of so many patients N1, N2, ... to predict and labelled ones T..., R..., without cells."""
    names = [f"N{n}" for n in range(n_to_predict)]
    names += [f"T{n}" for n in range(n_tumoral)] + [f"R{n}" for n in range(n_reactive)]
    patients = tiny_cohort.patients.iloc[[0] * len(names)].reset_index(drop=True)
    labels = np.repeat([-1, 1, 0], [n_to_predict, n_tumoral, n_reactive])
    patients = patients.assign(patient=names, label=labels, n_cells=0)
    return replace(tiny_cohort, patients=patients, pictures_CSS3=tiny_cohort.pictures_CSS3[:0], picture_digests=[])


def table(n_reactive: int, n_tumoral: int) -> str:
    values = [0] * n_reactive + [1] * n_tumoral
    return "ID,Predicted\n" + "".join(f"N{n},{value}\n" for n, value in enumerate(values))


def test_nothing_is_found_in_a_good_one(check, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for good in (GOOD, GOOD.rstrip("\n"), GOOD.replace("\n", "\r\n"), GOOD.replace("P15", '"P15"')):
        report = check(good)
        assert report.findings == [] and report.n_errors == 0
        assert report.summary == f"{tmp_path / 'submission.csv'}: 3 patients, no errors, no warnings"


ERRORS = [
    (b"ID,Predicted\nP6,0\nP1\xe9,1\n", "row 3: byte 0xe9 is not UTF-8; save it as CSV UTF-8"),
    ("", ": empty; expected the header ID,Predicted"),
    ("\n \n", ": empty; expected the header ID,Predicted"),
    ('ID,Predicted\nP6,0\n"P11,1\n', "row 3: not CSV (unexpected end of data); expected one ID"),
    ("ID,Predicted\nP6," + "0" * 200_000 + "\n", "row 2: not CSV (field larger than field limit"),
    ("ID;Predicted\nP6;0\n", "row 1: the columns are 'ID;Predicted'; expected ID,Predicted separated by a comma"),
    ("patient,Predicted\nP6,0\n", "row 1: the columns are 'patient', 'Predicted'; expected ID,Predicted"),
    ("ID,Predicted,ID\nP6,0,1\n", "row 1: the columns are 'ID', 'Predicted', 'ID'; expected"),
    ("P6,0\nP11,1\nP15,1\n", "row 1: the columns are 'P6', '0'; expected"),
    (GOOD.replace("ID,P", "id, p"), "row 1: the columns are 'id', ' predicted'; expected"),
    ("Predicted,ID\n0,P6\n1,P11\n1,P15\n", "row 1: the columns are 'Predicted', 'ID'; expected"),
    ("ID,Predicted,x\nP6,0,\nP11,1,\nP15,1,\n", "row 1: the columns are 'ID', 'Predicted', 'x'; expected"),
    (GOOD.replace("P11,1", "P11,1,7"), "row 3: 3 values; expected 2"),
    (GOOD.replace("P11,1\n", ""), ": 1 patient missing: 'P11'; add a row for each"),
    ("ID,Predicted\n", ": 3 patients missing: 'P6', 'P11', 'P15'; add a row for each"),
    (GOOD + "P99,1\n", "row 5: no patient 'P99' in tiny; correct the id"),
    (GOOD + "=HYPERLINK(0),1\n", "row 5: no patient '=HYPERLINK(0)' in tiny; correct the id"),
    (GOOD + "\x1b[2J,1\n", r"row 5: no patient '\x1b[2J' in tiny; correct the id"),
    (GOOD + "P7,1\n", "row 5: 'P7' is a labelled patient; take the row out"),
    (GOOD + "p07,1\n", "row 5: 'p07' is a labelled patient; take the row out"),
    (GOOD + "P15,1\n", "row 5: 'P15' is in row 4 already; keep one"),
    (GOOD.replace("P15", "p15"), "row 4: no patient 'p15' in this spelling; write 'P15'"),
    (GOOD.replace("P15", " P15"), "row 4: no patient ' P15' in this spelling; write 'P15'"),
    (GOOD.replace("P15", "P 15"), "row 4: no patient 'P 15' in this spelling; write 'P15'"),
    (GOOD.replace("P15", "P0015"), "row 4: no patient 'P0015' in this spelling; write 'P15'"),
    (GOOD.replace("P11,1", "P11,0.7"), "row 3: Predicted is '0.7', a probability; expected 0 or 1"),
    (GOOD.replace("P11,1", "P11,True"), "row 3: Predicted is 'True'; expected 0 or 1"),
    (GOOD.replace("P11,1", "P11,false"), "row 3: Predicted is 'false'; expected 0 or 1"),
    (GOOD.replace("P11,1", "P11,"), "row 3: Predicted is empty; expected 0 or 1"),
    (GOOD.replace("P11,1", "P11,-1"), "row 3: Predicted is '-1'; expected 0 or 1"),
    (GOOD.replace("P11,1", "P11,0_1"), "row 3: Predicted is '0_1'; expected 0 or 1"),
    (GOOD.replace("P11,1", "P11,nan"), "row 3: Predicted is 'nan'; expected 0 or 1"),
    (GOOD.replace("P11,1", "P11,\uff11"), "row 3: Predicted is '\uff11'; expected 0 or 1"),
    (GOOD.replace("P11,1", "P11," + "9" * 90), "row 3: Predicted is '" + "9" * 40 + "...'; expected 0 or 1"),
]


@pytest.mark.parametrize(("content", "line"), ERRORS)
def test_an_error_is_found_once(content: str | bytes, line: str, check) -> None:  # type: ignore[no-untyped-def]
    report = check(content)
    assert report.n_errors == 1
    (said,) = [found for found in report.lines if found.startswith("error: ")]
    assert line in said


def test_a_header_that_is_nearly_right_hides_nothing_below_it(check) -> None:  # type: ignore[no-untyped-def]
    report = check(GOOD.replace("ID,P", "id, p") + "P99,1\n")
    assert report.n_patients == 4 and report.n_errors == 2 and "row 5: no patient 'P99'" in report.lines[1]


WARNINGS = [
    (b"\xef\xbb\xbf" + GOOD.encode(), "row 1: a byte order mark before the header; save it as UTF-8 without"),
    (GOOD + "\n \n", "row 5: 2 blank lines at the end; take out blank lines"),
    (GOOD.replace("P11", "\nP11"), "row 3: 1 blank line; take out blank lines"),
    ("ID,Predicted\nP11,1\nP6,0\nP15,1\n", "row 3: 'P6' comes after 'P11'; sort the rows as in the cohort"),
    (GOOD.replace("P11,1", "P11,1.0"), "row 3: Predicted is '1.0'; write 1"),
    (GOOD.replace("P6,0", "P6,0.0"), "row 2: Predicted is '0.0'; write 0"),
    (GOOD.replace("P11,1", "P11, 1"), "row 3: Predicted is ' 1'; write 1"),
    (GOOD.replace("P6,0", "P6,1"), "all 3 predictions are tumoral; check the model"),
    (GOOD.replace(",1", ",0"), "all 3 predictions are reactive; check the model"),
]


@pytest.mark.parametrize(("content", "line"), WARNINGS)
def test_a_warning_is_found_once_and_is_no_error(content: str | bytes, line: str, check) -> None:  # type: ignore[no-untyped-def]
    report = check(content)
    assert report.n_errors == 0 and len(report.lines) == 1
    assert report.lines[0].startswith("warning: ") and line in report.lines[0]
    assert report.summary.endswith("3 patients, no errors, 1 warning")


@pytest.mark.parametrize(("n_tumoral", "fits"), [(3, False), (4, True), (16, True), (17, False)])
def test_a_balance_far_from_the_labelled_patients_is_a_warning(
    n_tumoral: int, fits: bool, check, tiny_cohort: Cohort
) -> None:  # type: ignore[no-untyped-def]
    """Of 20 patients at 50 %, 3 or fewer have a probability of .0013, 4 or fewer of .0059, which is over .005."""
    report = check(table(20 - n_tumoral, n_tumoral), large(tiny_cohort, 20, 50, 50))
    said = f"{n_tumoral} of 20 predictions are tumoral; the labelled patients' 50 % suggest 4 to 16; check the thr"
    assert report.n_errors == 0 and report.lines == [] if fits else said in report.lines[0]


def test_ids_that_read_alike_are_all_named(check, tiny_cohort: Cohort) -> None:  # type: ignore[no-untyped-def]
    cohort = large(tiny_cohort, 2, 1, 1)
    cohort = replace(cohort, patients=cohort.patients.assign(patient=["n1", "N01", "N001", "R"]))
    assert any(
        "no patient 'N1' in this spelling; write 'n1' or 'N01'" in line
        for line in check("ID,Predicted\nN1,1\n", cohort).lines
    )


def test_findings_come_in_the_order_of_rows_and_not_by_the_thousand(check, tiny_cohort: Cohort) -> None:  # type: ignore[no-untyped-def]
    report = check(GOOD.replace("P6,0", "P6,0.5") + "P99,2\n" + "".join(f"X{n},0\n" for n in range(500)))
    rows = [finding.row for finding in report.findings if finding.row]
    assert rows == sorted(rows) and report.n_errors == 503
    assert len(report.lines) == 101 and report.lines[-1] == f"... and {len(report.findings) - 100} more"


def test_a_file_without_end_is_refused(check, tmp_path: Path, tiny_cohort: Cohort) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "huge.csv").write_bytes(b"ID,Predicted\nP6," + b"0" * submission.LARGEST_BYTES)
    with pytest.raises(InputError, match=r"huge.csv: over 10.* MB; expected one short line a patient"):
        check_submission(tmp_path / "huge.csv", tiny_cohort)
    (line,) = check("ID,Predicted\n" + "P6,0\n" * (submission.MOST_ROWS + 1)).lines
    assert "row 100001: over 100000 rows; expected one a patient" in line


@pytest.mark.parametrize("name", ["nowhere.csv", "."])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path, tiny_cohort: Cohort) -> None:
    with pytest.raises(InputError, match=r"no such file; name a submission.csv with --check"):
        check_submission(tmp_path / name, tiny_cohort)


def test_a_cohort_without_anyone_to_predict_is_refused(check, tiny_cohort: Cohort) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="tiny: no patient to predict, so nothing to submit"):
        check(GOOD, large(tiny_cohort, 0, 2, 2))


def test_the_command_takes_the_cohort_of_the_run_or_another(
    ensemble: Ensemble, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = str(ensemble.path / "submission.csv")
    assert main(["submit", "--check", ours, "--runs", str(run.path.parent)]) == 0
    assert "submission.csv: 3 patients, no errors, " in " ".join(capsys.readouterr().out.split())
    data = run.description.cohort.data
    assert main(["submit", "--check", ours, "--data", data]) == 0
    assert main(["submit", "--check", ours, "--run", run.name, "--runs", str(run.path.parent), "--data", data]) == 0
    capsys.readouterr()
    (tmp_path / "mine.csv").write_text("ID,Predicted\nP6,0\nP11,1\n")
    assert main(["submit", "--check", str(tmp_path / "mine.csv"), "--data", data]) == 2
    said, mine = capsys.readouterr(), tmp_path / "mine.csv"
    assert " ".join(said.out.split()) == f"error: {mine}: 1 patient missing: 'P15'; add a row for each"
    assert said.err == f"lymphtune: {mine}: 2 patients, 1 error, no warnings; correct the errors and check again\n"
    assert main(["submit", "--check", ours, "--run", "nothing", "--runs", str(run.path.parent)]) == 2
    assert "nothing: no such run" in capsys.readouterr().err


def test_a_birth_after_the_reference_date_is_nothing_against_a_submission(
    tiny_cohort_folder: Path, tmp_path: Path
) -> None:
    """Ages are not asked for: a cohort that was searched with another reference date is looked over all the same."""
    table = tiny_cohort_folder / "clinical_annotation.csv"
    table.write_text(table.read_text().replace("3/27/1961", "3/27/2021"))
    (tmp_path / "submission.csv").write_text("ID,Predicted\nP6,1\nP11,0\nP15,1\n")
    report = submission_report(tmp_path / "submission.csv", data=str(tiny_cohort_folder))
    assert report.n_errors == 0
    with pytest.raises(InputError, match="after the reference date"):
        load_cohort(tiny_cohort_folder)
