"""The list of broken guards is of this source and these tests; `make guards` runs it."""

import ast
import re
from pathlib import Path

import pytest

from benchmarks.leak_guards import MUTANTS, ROOT, Mutant, broken_tree, noticed_by, table

MUST = {
    "fold assignment",
    "test overlap",
    "scaler fit",
    "out-of-fold voting",
    "trial selection",
    "combiner fit",
    "calibration fit",
    "threshold fit",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.broken)
def test_what_is_broken_stands_in_the_source_once_and_is_still_python(mutant: Mutant) -> None:
    assert ast.dump(ast.parse(mutant.mutated)) != ast.dump(ast.parse(mutant.source))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.broken)
def test_the_tests_that_must_notice_are_there(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        file, name = test.split("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", text, re.MULTILINE), test


def test_every_guard_is_broken_and_the_page_lists_all() -> None:
    assert {mutant.guard for mutant in MUTANTS} >= MUST
    assert len({mutant.broken for mutant in MUTANTS}) == len(MUTANTS)
    page = (ROOT / "docs" / "leak-guards.md").read_text(encoding="utf-8")
    assert table() in page, "docs/leak-guards.md: put there what `python benchmarks/leak_guards.py --table` prints"


def test_a_text_that_is_not_there_is_said() -> None:
    gone = Mutant("fold assignment", "nothing", "cohort/folds.py", "no such line", "", ())
    with pytest.raises(ValueError, match=r"cohort/folds\.py: 'no such line' stands there 0 times; expected once"):
        _ = gone.mutated


def test_the_guard_is_broken_in_a_copy_and_nowhere_else() -> None:
    mutant = MUTANTS[0]
    before = mutant.source
    with broken_tree(mutant) as tree:
        broken = (tree / "lymphtune" / mutant.file).read_text(encoding="utf-8")
        assert broken == mutant.mutated and tree != ROOT
        assert (tree / "tests" / "conftest.py").is_file()
    assert mutant.source == before and not Path(tree).exists()


@pytest.mark.slow
def test_a_broken_guard_is_noticed_and_a_sound_one_is_not() -> None:
    (audited,) = (mutant for mutant in MUTANTS if mutant.file == "statistics/audit.py")
    assert noticed_by(audited) == set(audited.tests)
    sound = Mutant("", "", audited.file, "RIDGE = 1.0", "RIDGE = 1.00", audited.tests)
    assert noticed_by(sound) == set()
