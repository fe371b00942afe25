"""Are the guards against leaks tested? Each is broken on purpose in a copy of the tree; the tests named must notice.

python benchmarks/leak_guards.py            # all of them, minutes
python benchmarks/leak_guards.py scaler     # those whose guard has this word in it
python benchmarks/leak_guards.py --table    # the table of docs/leak-guards.md; nothing is run
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lymphtune import console

ROOT = Path(__file__).parent.parent
COPIED = ("lymphtune", "tests", "benchmarks", "search_spaces", "ensembles", "pyproject.toml")
LIMIT_S = 600
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?)(?:\[.*)?(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """One guard, how it is broken, and the tests each of which must fail then.

    before, after: text that stands once in `file`, and what takes its place.
    """

    guard: str
    broken: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]

    @property
    def source(self) -> str:
        return (ROOT / "lymphtune" / self.file).read_text(encoding="utf-8")

    @property
    def mutated(self) -> str:
        """Return the file's text, broken; raises ValueError where the text to break is not there once."""
        if (times := self.source.count(self.before)) != 1:
            raise ValueError(f"lymphtune/{self.file}: {self.before!r} stands there {times} times; expected once")
        return self.source.replace(self.before, self.after)


LOCKSTEP, PROCEDURE, PREDICT = (
    f"tests/{name}.py::" for name in ("training/test_lockstep", "ensembling/test_procedure", "ensembling/test_predict")
)
LEARNT = f"{PROCEDURE}test_nothing_is_learnt_from_patients_left_out"

MUTANTS = (
    Mutant(
        "fold assignment",
        "networks and clinical models train on the patients that their fold holds out",
        "training/lockstep.py",
        "(cohort.labels != TO_PREDICT) & ~held_out)",
        "cohort.labels != TO_PREDICT)",
        (
            f"{LOCKSTEP}test_no_patient_has_two_roles",
            f"{LOCKSTEP}test_a_patient_s_own_label_never_reaches_its_probability",
        ),
    ),
    Mutant(
        "fold assignment",
        "patients to predict are trained on",
        "training/lockstep.py",
        "(cohort.labels != TO_PREDICT) & ~held_out)",
        "~held_out)",
        (f"{LOCKSTEP}test_no_patient_has_two_roles",),
    ),
    Mutant(
        "fold assignment",
        "a fold model predicts the patients that it was trained on",
        "training/lockstep.py",
        "        held_out = np.flatnonzero(folds_RP[r] == k)\n",
        "        held_out = np.flatnonzero((folds_RP[r] != k) & (folds_RP[r] >= 0))\n",
        (f"{LOCKSTEP}test_no_patient_has_two_roles",),
    ),
    Mutant(
        "fold assignment",
        "one patient is held out by no fold",
        "cohort/folds.py",
        "            fold_P[labelled[held_out]] = fold\n",
        "            fold_P[labelled[held_out[fold == 0 :]]] = fold\n",
        ("tests/cohort/test_folds.py::test_every_labelled_patient_is_held_out_once",),
    ),
    Mutant(
        "fold assignment",
        "an ensemble reads trials that were trained on other folds",
        "ensembling/candidates.py",
        "        if rest or (found.reshape(n_epochs, -1) != right).any():",
        "        if rest:",
        ("tests/ensembling/test_candidates.py::test_another_search_s_probabilities_are_refused",),
    ),
    Mutant(
        "group folds",
        "patients of one group are in several folds",
        "cohort/folds.py",
        "    if groups_P is not None and len({*groups_P[labelled]}) < len(labelled):\n",
        "    if groups_P is not None and len({*groups_P[labelled]}) > len(labelled):\n",
        (
            "tests/cohort/test_layout.py::test_folds_keep_groups_together",
            "tests/cohort/test_folds.py::test_a_cohort_s_groups_are_kept_together",
        ),
    ),
    Mutant(
        "group folds",
        "the folds of a search are made without the cohort's groups",
        "cohort/folds.py",
        "make_folds(cohort.labels, folds, repeats, seed, groups_P=cohort.groups)",
        "make_folds(cohort.labels, folds, repeats, seed)",
        ("tests/cohort/test_folds.py::test_a_cohort_s_groups_are_kept_together",),
    ),
    Mutant(
        "group folds",
        "a resample may learn from one patient of a group and be scored on another",
        "ensembling/score.py",
        "resample(candidates.labels_P, RESAMPLES, 0, group_P)",
        "resample(candidates.labels_P, RESAMPLES, 0)",
        ("tests/ensembling/test_score.py::test_a_group_is_drawn_or_left_out_as_one",),
    ),
    Mutant(
        "group folds",
        "the resamples of a run are made without the cohort's groups",
        "ensembling/candidates.py",
        "        grouping(cohort.groups[scored_P]),\n",
        "        None,\n",
        ("tests/ensembling/test_ensemble.py::test_the_groups_of_a_cohort_reach_the_resamples",),
    ),
    Mutant(
        "group folds",
        "one person may be labelled in one row and to be predicted in another",
        "cohort/clinical.py",
        '        _check_persons(table, [key.get("person") for key in keys], path)\n',
        "        table = table.copy()\n",
        ("tests/cohort/test_layout.py::test_one_person_has_one_role",),
    ),
    Mutant(
        "test overlap",
        "a picture may be of a labelled patient and of one to predict",
        "cohort/folds.py",
        "        if known and new:\n",
        "        if not known and new:\n",
        ("tests/cohort/test_folds.py::test_a_picture_in_two_roles_is_refused",),
    ),
    Mutant(
        "test overlap",
        "pictures seen in training are not looked for among new patients",
        "ensembling/apply.py",
        "            seen_P[some] |= loaded.seen_pictures(digests)\n",
        "",
        (f"{PREDICT}test_a_picture_seen_in_training_is_refused_before_any_is_judged",),
    ),
    Mutant(
        "test overlap",
        "ids seen in training are not looked for among new patients",
        "ensembling/apply.py",
        "    seen_P, cohort_hash = loaded.seen_ids(ids), CohortHash(",
        "    seen_P, cohort_hash = np.zeros(len(ids), dtype=bool), CohortHash(",
        (f"{PREDICT}test_an_id_seen_in_training_is_refused_before_any_picture_is_read",),
    ),
    Mutant(
        "test overlap",
        "patients seen in training count in an external validation",
        "ensembling/apply.py",
        "    counted_P = (labels_P != TO_PREDICT) & ~seen_P\n",
        "    counted_P = labels_P != TO_PREDICT\n",
        (f"{PREDICT}test_seen_patients_alone_validate_nothing",),
    ),
    Mutant(
        "scaler fit",
        "age and count are standardised by all patients",
        "training/network.py",
        "        model.fit_attributes(self.bags.attributes_PA[self.rows])\n",
        "        model.fit_attributes(self.bags.attributes_PA)\n",
        (f"{LOCKSTEP}test_attributes_are_scaled_by_training_patients_only",),
    ),
    Mutant(
        "scaler fit",
        "a missing value is the mean of all patients, in networks",
        "training/batches.py",
        "        self.attributes_PA = torch.from_numpy(cohort.attributes_PA).float()\n",
        "        self.attributes_PA = torch.from_numpy(cohort.attributes_PA).float()\n"
        "        of_all_A = self.attributes_PA.nanmean(dim=0)\n"
        "        self.attributes_PA = torch.where(self.attributes_PA.isnan(), of_all_A, self.attributes_PA)\n",
        (f"{LOCKSTEP}test_a_missing_value_is_imputed_by_training_patients_only",),
    ),
    Mutant(
        "scaler fit",
        "a missing value is the mean of all patients, in clinical models",
        "training/lockstep.py",
        "    attributes_PA, labels_P = cohort.attributes_PA, cohort.labels\n",
        "    attributes_PA, labels_P = cohort.attributes_PA, cohort.labels\n"
        "    attributes_PA = np.where(np.isnan(attributes_PA), np.nanmean(attributes_PA, axis=0), attributes_PA)\n",
        (f"{LOCKSTEP}test_a_missing_value_is_imputed_by_training_patients_only",),
    ),
    Mutant(
        "scaler fit",
        "frozen features are standardised, and reduced, by the cells of all patients",
        "training/network.py",
        "self.bags.features_of(self.rows), self._seed_of(0))",
        "self.bags.features_of(np.arange(len(self.bags.labels_P))), self._seed_of(0))",
        ("tests/training/test_frozen.py::test_the_reduction_is_fitted_on_training_patients_only",),
    ),
    Mutant(
        "scaler fit",
        "batch-norm statistics are measured on all patients",
        "training/network.py",
        "in self.bags.training(self.rows, STATISTICS_PATIENTS, rng, STATISTICS_PATIENTS):",
        "in self.bags.training(np.arange(len(self.bags.labels_P)), STATISTICS_PATIENTS, rng, STATISTICS_PATIENTS):",
        (f"{LOCKSTEP}test_no_patient_has_two_roles",),
    ),
    Mutant(
        "out-of-fold voting",
        "cells of the gallery are judged by models that trained on their patient",
        "ensembling/held_out_cells.py",
        "fold_of(path.name) == fold\n",
        "fold_of(path.name) != fold\n",
        ("tests/ensembling/test_held_out_cells.py::test_no_cell_is_judged_by_a_model_that_trained_on_its_patient",),
    ),
    Mutant(
        "out-of-fold voting",
        "cells are shown of a run with other folds than the ensemble's",
        "ensembling/held_out_cells.py",
        "np.array_equal(\n        ensemble.known.fold_P, candidates.fold_P\n    )",
        "True",
        ("tests/ensembling/test_held_out_cells.py::test_an_ensemble_of_other_folds_or_patients_is_told",),
    ),
    Mutant(
        "out-of-fold voting",
        "under shifted pictures a patient is judged by models that trained on it",
        "ensembling/shift_robustness.py",
        "np.flatnonzero(fold_P == fold_of(path.name))",
        "np.flatnonzero(fold_P != fold_of(path.name))",
        (
            "tests/ensembling/test_shift_robustness.py::test_nobody_is_judged_by_a_model_that_saw_them",
            "tests/ensembling/test_shift_robustness.py::test_with_all_cells_the_votes_are_the_out_of_fold_ones",
        ),
    ),
    Mutant(
        "out-of-fold voting",
        "the honest score counts patients that were drawn",
        "statistics/honest.py",
        "        return self.counts_SP == 0\n",
        "        return self.counts_SP >= 0\n",
        ("tests/statistics/test_honest.py::test_the_score_is_of_patients_not_drawn",),
    ),
    Mutant(
        "out-of-fold voting",
        "single attributes are audited on the patients that their regression was fitted to",
        "statistics/audit.py",
        "        train, held = fold_P != fold, fold_P == fold\n",
        "        train, held = fold_P > -2, fold_P == fold\n",
        ("tests/statistics/test_audit.py::test_nobody_is_judged_by_a_regression_that_saw_its_label",),
    ),
    Mutant(
        "trial selection",
        "every resample takes the trials that are best on all patients",
        "ensembling/procedure.py",
        "resamples.choose(self.recipe.choice), candidates.labels_P\n",
        "np.tile(candidates.chosen(self.recipe.choice), (len(resamples.counts_SP), 1)), candidates.labels_P\n",
        ("tests/ensembling/test_score.py::test_random_labels_are_worth_one_half_and_the_naive_score_hides_it",),
    ),
    Mutant(
        "trial selection",
        "a trial that picks its epoch enters at the one that is best on all patients",
        "ensembling/candidates.py",
        "        weight_SP = class_weights(labels_P, self.counts_SP)\n",
        "        weight_SP = class_weights(labels_P, np.ones_like(self.counts_SP))\n",
        ("tests/ensembling/test_candidates.py::test_patients_not_drawn_have_no_say",),
    ),
    Mutant(
        "combiner fit",
        "in every resample the combiner learns from the patients left out, too",
        "ensembling/procedure.py",
        "            fitted = self.fit(members_MP[:, resample], labels_P[resample])\n",
        "            fitted = self.fit(members_MP, labels_P)\n",
        (LEARNT,),
    ),
    Mutant(
        "calibration fit",
        "in every resample the calibration is fitted to the patients left out, too",
        "ensembling/procedure.py",
        "            combined_P = fitted.combined(members_MP)\n",
        "            known_too = self.fit(members_MP, labels_P).calibration\n"
        "            fitted = Fitted(fitted.combiner, known_too, fitted.threshold, fitted.margin)\n"
        "            combined_P = fitted.combined(members_MP)\n",
        (LEARNT,),
    ),
    Mutant(
        "threshold fit",
        "in every resample the threshold is chosen on the patients left out, too",
        "ensembling/procedure.py",
        "            probability_P = fitted.calibrated(combined_P)\n",
        "            probability_P = fitted.calibrated(combined_P)\n"
        "            threshold = self.threshold.choose(probability_P, labels_P)\n"
        "            fitted = Fitted(fitted.combiner, fitted.calibration, threshold, fitted.margin)\n",
        (LEARNT,),
    ),
    Mutant(
        "threshold fit",
        "in every resample the margin of referral is set by the patients left out, too",
        "ensembling/procedure.py",
        "            resampled.refers_SP[s] = fitted.refers(probability_P)\n",
        "            all_P = margins(probability_P, fitted.threshold)\n"
        "            margin = np.quantile(all_P, self.refer) if self.refer else 0.0\n"
        "            resampled.refers_SP[s] = all_P < margin\n",
        (LEARNT,),
    ),
    Mutant(
        "threshold fit",
        "prediction sets are compared with the patients left out, too",
        "ensembling/procedure.py",
        "CrossConformal.split(probability_P[resample], labels_P[resample])",
        "CrossConformal.split(probability_P, labels_P)",
        (LEARNT,),
    ),
)


def main() -> int:
    """Break one guard after the other and return 0 where every test named has noticed."""
    if "--table" in sys.argv:
        print(table())
        return 0
    wanted = [mutant for mutant in MUTANTS if all(word in mutant.guard for word in sys.argv[1:])]
    missed = 0
    for mutant in console.each(wanted, "breaking guards", len(wanted)):
        failed = noticed_by(mutant)
        silent = [test for test in mutant.tests if test not in failed]
        missed += bool(silent)
        print(f"{mutant.guard}: {mutant.broken}", flush=True)
        for test in mutant.tests:
            print(f"  {'NOT NOTICED' if test in silent else 'noticed'} by {test}", flush=True)
    print(f"{len(wanted) - missed} of {len(wanted)} noticed")
    return int(missed > 0)


def noticed_by(mutant: Mutant) -> set[str]:
    """Return which of the mutant's tests fail on it; raises RuntimeError where they cannot be run."""
    with broken_tree(mutant) as tree:
        command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *mutant.tests]
        paths = os.environ | {"PYTHONPATH": str(tree)}
        done = subprocess.run(command, cwd=tree, env=paths, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode not in (0, 1):  # no tests found, or none could be collected
        raise RuntimeError(f"{mutant.guard}: {mutant.broken}\n{done.stdout}{done.stderr}")
    return set(FAILED.findall(done.stdout))


@contextmanager
def broken_tree(mutant: Mutant) -> Iterator[Path]:
    """Yield a copy of the tree with this guard broken."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        for part in COPIED:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / part, tree / part)
        (tree / "lymphtune" / mutant.file).write_text(mutant.mutated, encoding="utf-8")
        yield tree


def table() -> str:
    """Return the guards as a table in Markdown."""
    lines = ["| guard | broken so | in | noticed by |", "|---|---|---|---|"]
    for mutant in MUTANTS:
        tests = ", ".join(f"`{test.rpartition('::')[2]}`" for test in mutant.tests)
        lines.append(f"| {mutant.guard} | {mutant.broken} | `{mutant.file}` | {tests} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
