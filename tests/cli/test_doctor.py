"""lymphtune doctor of a cohort: what it prints, how it exits, the same for programs."""

import json
from pathlib import Path

import pytest

from lymphtune.cli import main
from lymphtune.result import Result
from lymphtune.shortcuts import audit as shortcuts
from tests.doctor import corpus


def test_exit_codes_by_severity(tiny_cohort_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["doctor", "--data", str(tiny_cohort_folder)]
    assert main(given) == 0
    said = capsys.readouterr()
    assert "tiny: 15 patients: 12 labelled (6 reactive, 6 tumoral), 3 to predict" in said.out and "1 note" in said.out
    assert said.err == ""
    corpus.a_black_picture(tiny_cohort_folder)
    assert main(given) == 3
    said = capsys.readouterr()
    assert "1 warning" in said.out and said.err.count("\n") == 1
    assert f"lymphtune: {tiny_cohort_folder}: 1 warning, 1 note; see what to do" in said.err
    corpus.an_empty_picture(tiny_cohort_folder)
    assert main(given) == 2
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_findings_as_values(tiny_cohort_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus.a_count_in_words(tiny_cohort_folder)
    assert main(["doctor", "--data", str(tiny_cohort_folder), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["n_errors"], told["n_warnings"], told["n_notes"]) == (1, 0, 1)
    assert told["cohort"]["n_patients"] == 15 and told["cohort"]["sizes"] == {"224x224": 52}
    assert told["findings"][0] == {
        "severity": "error",
        "check": "number",
        "text": "1 value of LYMPH_COUNT is not a number",
        "cure": "Expected a number above 0, in 10^9/L, with a decimal point.",
        "places": ["row 2 (P3) 'high'"],
        "count": 1,
    }


def test_a_corrected_copy_and_what_is_left(
    tiny_cohort_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.counts_a_microlitre(tiny_cohort_folder)
    corpus.a_black_picture(tiny_cohort_folder)
    given = ["doctor", "--data", str(tiny_cohort_folder), "--fix", str(tmp_path / "out")]
    assert main(given) == 3
    said = capsys.readouterr()
    assert "16 changes" in said.out and "count unit (15)" in said.out and "all black" in said.out
    assert f"{tmp_path / 'out'}: corrected; 1 warning, 1 note remain" in said.err
    assert main(given) == 2
    assert "out: exists already; name another folder with --fix" in capsys.readouterr().err


def test_of_a_packed_file_and_of_nothing(tiny_cohort_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = corpus.packed(tiny_cohort_folder)
    assert main(["doctor", "--data", str(packed)]) == 0
    assert "52 pictures" in capsys.readouterr().out
    assert main(["doctor", "--data", str(packed), "--fix", str(packed.with_name("out"))]) == 2
    assert "--fix: " in capsys.readouterr().err
    assert main(["doctor", "--data", str(packed.with_name("none"))]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert main(["doctor", "--fix", "out"]) == 2
    assert "nothing to check" in capsys.readouterr().err


def test_what_tells_the_label_alone_is_a_finding(
    tiny_cohort_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tiny_cohort_folder / "clinical_annotation.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    for row in rows[1:]:
        row[4] = "16-09-1934" if row[2] == "1" else "3/27/1961"
    table.write_text("\n".join(map(",".join, rows)) + "\n")
    monkeypatch.setattr(shortcuts, "MIN_PER_CLASS", 2)
    monkeypatch.setattr(shortcuts, "SIGNIFICANT", 0.2)  # of so few patients a label is permuted into itself
    monkeypatch.setattr(shortcuts, "WARNING_P", 0.2)
    assert main(["doctor", "--data", str(tiny_cohort_folder)]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "shortcut: format of DOB alone predicts the label" in said and shortcuts.CURE in said
    corpus.an_empty_picture(tiny_cohort_folder)  # with an error in it the cohort cannot be audited
    assert main(["doctor", "--data", str(tiny_cohort_folder)]) == 2
    said = capsys.readouterr().out
    assert "1 error" in said and "alone predicts" not in said


def test_no_name_of_a_file_reaches_the_terminal_as_it_is(
    tiny_cohort_folder: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    corpus.a_file_whose_name_clears_the_screen(tiny_cohort_folder)
    corpus.a_folder_whose_name_is_no_text(tiny_cohort_folder)
    corpus.a_picture_whose_name_breaks_the_line(tiny_cohort_folder)
    given = ["doctor", "--data", str(tiny_cohort_folder)]
    for more in ([], ["--json"], ["--fix", str(tmp_path / "out")]):
        assert main([*given, *more]) == 2
        said = capsysbinary.readouterr()
        assert b"\x1b" not in said.out + said.err and b"\\x1b[2J" in said.out.replace(b"\\\\", b"\\")


def test_a_cohort_and_a_cluster_are_told_as_one(
    tiny_cohort_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [Result("ok node", {"nodes": ["node"]}), Result("! node", {"nodes": []}, "1 finding on node", 2)]

    def check_cluster(*given: object) -> Result:
        assert given[:3] == ("auto", None, str(tiny_cohort_folder))
        return results.pop(0)

    monkeypatch.setattr("lymphtune.cluster.doctor.check_cluster", check_cluster)
    corpus.a_black_picture(tiny_cohort_folder)
    given = ["doctor", "--address", "auto", "--data", str(tiny_cohort_folder)]
    assert main([*given, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["nodes"] == ["node"] and told["cohort"]["n_warnings"] == 1
    assert main(given) == 2
    shown = capsys.readouterr()
    assert shown.out.startswith("! node\n\ntiny: 15 patients")
    assert shown.err.startswith(f"lymphtune: 1 finding on node. {tiny_cohort_folder}: 1 warning")
