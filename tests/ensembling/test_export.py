"""The ensemble as one .onnx file: it says what the folder says, or it is not written."""

import importlib.util
import itertools
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file, save_file

import lymphtune
from lymphtune.cli import main
from lymphtune.cohort import Cohort
from lymphtune.cohort.attributes import Attribute
from lymphtune.ensembling import export
from lymphtune.ensembling.bundle import LEARNT, Ensemble, fold_of
from lymphtune.ensembling.export import export_onnx, weighted_means
from lymphtune.errors import InputError
from lymphtune.files import sha256
from lymphtune.runs.run import Run
from tests.training.asked import asked


@pytest.fixture(scope="module")
def mixed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    """Two networks and all clinical models."""
    built = lymphtune.ensemble(run=run.path, top=9, source="all")
    path = Path(shutil.copytree(built.path, tmp_path_factory.mktemp("mixed") / "top"))
    rewrite(path, lambda given: given.update(members=of_kind(given, "model")[:2] + of_kind(given, "clinical")))
    learn(path, np.full(6, 1 / 6))
    return Ensemble.load(path)


@pytest.fixture
def clinical(mixed: Ensemble, tmp_path: Path) -> Path:
    """A copy with one fold model of the clinical ones alone, which is written in a moment; free to be changed."""
    path = Path(shutil.copytree(mixed.path, tmp_path / "clinical"))
    rewrite(path, lambda given: given.update(members=of_kind(given, "clinical")))
    rewrite(path, lambda given: [member.update(weights=member["weights"][:1]) for member in given["members"]])
    learn(path, np.full(4, 1 / 4))
    return path


def learn(folder: Path, weight_M: np.ndarray) -> None:
    """Write other weights of the members, as if they had been learnt."""
    save_file({"combiner.weights_M_": weight_M}, folder / LEARNT)
    oof, members = folder / "oof.parquet", yaml.safe_load((folder / "ensemble.yaml").read_text())["members"]
    columns = ["label", "fold", "probability", *(member["trial"] for member in members)]
    table, files = pd.read_parquet(oof)[columns], members[0]["weights"]
    table[table["fold"].isin({fold_of(name) for name in files})].to_parquet(oof)
    for file in (folder / LEARNT, oof):
        rewrite(folder, lambda given, file=file: given["files"].update({file.name: sha256(file)}))


def of_kind(given: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [member for member in given["members"] if kind in member["configuration"]]


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Pass what ensemble.yaml holds through `change`."""
    given = yaml.safe_load((folder / "ensemble.yaml").read_text())
    change(given)
    (folder / "ensemble.yaml").write_text(yaml.safe_dump(given, sort_keys=False))


def test_the_file_says_of_people_what_the_ensemble_says(
    mixed: Ensemble, tiny_cohort: Cohort, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "top.onnx"
    assert main(["export", "--onnx", str(out), "--ensemble", str(mixed.path)]) == 0
    said, expected = (
        capfd.readouterr(),
        mixed.predict(tiny_cohort, np.arange(len(tiny_cohort.patients)), allow_seen=True),
    )
    told = " ".join(said.out.split())  # the path may have broken its line anywhere
    assert told.startswith(f"{out}: 6 trials, ") and told.endswith("on random bags of 1, 3 and 17 cells")
    assert said.err.count("\n") == 1 and "fold models, seconds each" in said.err
    probability_P, members_MP = asked(out, tiny_cohort)
    np.testing.assert_allclose(members_MP, expected.members_MP, rtol=0, atol=1e-5)
    np.testing.assert_allclose(probability_P, expected.probability_P, rtol=0, atol=1e-5)
    assert [path.name for path in out.parent.iterdir()] == ["top.onnx"]


def test_the_file_says_what_it_is(clinical: Path, tiny_cohort: Cohort, tmp_path: Path) -> None:
    export_onnx(clinical, tmp_path / "top.onnx")
    model = onnx.load(tmp_path / "top.onnx")
    onnx.checker.check_model(model, full_check=True)
    members = [member["trial"] for member in Ensemble.load(clinical).members]
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "lymphtune": "0.1.0",
        "run": "copy",
        "cohort": tiny_cohort.name,
        "simulated": "false",
        "threshold": "0.5",
        "ages": "at 2020-01-01",
        "reference_date": "2020-01-01",
        "members": " ".join(members),
        "notice": "not a medical device",
    }
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "cells": ["n_cells", 224, 224, 3],
        "age_years": [1],
        "lymphocytes_g_per_l": [1],
        "probability": [1],
        "members": [len(members)],
    }


PAGE = Path(__file__).parents[2] / "docs" / "hand-over.md"
WORDS = ["no", "yes, and heavily"]  # a comma is part of the word


@pytest.fixture
def told_words(clinical: Path) -> Path:
    """The clinical ensemble as if its second number had stood for a word: two words are one number, too."""
    told = [Attribute("age_years"), Attribute("smoker", levels=tuple(WORDS))]
    rewrite(clinical, lambda given: given.update(attributes=[one.as_yaml() for one in told]))
    return clinical


def test_the_example_of_the_page_gives_missing_numbers_and_words(
    told_words: Path, tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export_onnx(told_words, Path("top.onnx"))
    ensemble, cells, said = Ensemble.load(told_words), tiny_cohort.bag(0), {}
    (text,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    example: dict[str, Any] = {"cells": cells}
    exec(text, example)
    for age_years, word in itertools.product((None, 61.5), (None, *WORDS, "pipe")):
        given = example["inputs"](example["session"], cells, {"age_years": age_years, "smoker": word})
        one = tiny_cohort.patients.assign(age_years=np.nan if age_years is None else age_years, smoker=word or "")
        cohort = replace(tiny_cohort, patients=one, attributes=ensemble.attributes)
        (said[age_years, word],) = example["session"].run(["probability"], given)[0]
        assert said[age_years, word] == pytest.approx(ensemble.predict_proba(cohort, allow_seen=True)[0], abs=1e-6)
    assert said[None, None] == said[None, "pipe"] and len(set(said.values())) == 6
    assert example["probability"] == said[None, None]  # the page's patient: of no age, and "yes" is no word of this one


def test_learnt_weights_are_in_the_graph(clinical: Path, tiny_cohort: Cohort, tmp_path: Path) -> None:
    rewrite(clinical, lambda given: given["recipe"].update(combiner="greedy"))
    learn(clinical, np.array([0.0, 0.2, 0.3, 0.5]))
    export_onnx(clinical, tmp_path / "greedy.onnx")
    probability_P, members_MP = asked(tmp_path / "greedy.onnx", tiny_cohort)
    expected_P = Ensemble.load(clinical).predict_proba(tiny_cohort, allow_seen=True)
    np.testing.assert_allclose(probability_P, expected_P, rtol=0, atol=1e-6)
    assert (np.abs(probability_P - members_MP.mean(axis=0)) > 1e-4).any()


def test_a_combiner_that_is_no_weighted_mean_is_refused(clinical: Path, tmp_path: Path) -> None:
    assert weighted_means() == ["greedy", "top"]
    save_file({}, clinical / LEARNT)  # a median learns nothing
    rewrite(clinical, lambda given: given["files"].update({LEARNT: sha256(clinical / LEARNT)}))
    rewrite(clinical, lambda given: given["recipe"].update(combiner={"median": {}}))
    with pytest.raises(InputError, match=r"'median' is not a weighted mean.*exported: greedy, top"):
        export_onnx(clinical, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_calibrated_ensemble_is_refused(clinical: Path, tmp_path: Path) -> None:
    save_file(
        load_file(clinical / LEARNT) | {f"calibration.{name}": np.ones(1) for name in ("slope_", "shift_")},
        clinical / LEARNT,
    )
    rewrite(clinical, lambda given: given["files"].update({LEARNT: sha256(clinical / LEARNT)}))
    rewrite(clinical, lambda described: described.update(calibration={"platt": {}}))
    with pytest.raises(InputError, match=r"calibrated \(.*only an ensemble without calibration can be exported"):
        export_onnx(clinical, tmp_path / "out.onnx")


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_a_file_that_says_something_else_never_takes_the_name(
    wrong: float, clinical: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "top.onnx").write_text("an older one")
    real = export._original
    monkeypatch.setattr(export, "_original", lambda *given: real(*given) + wrong)
    with pytest.raises(InputError, match=rf"not written; its probabilities differ from those of .* by {wrong:.2g}"):
        export_onnx(clinical, tmp_path / "out" / "top.onnx", overwrite=True)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["an older one"]


def test_a_folder_in_the_place_of_the_file_is_refused(clinical: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name a file with --onnx"):
        export_onnx(clinical, tmp_path)


def test_a_missing_extra_is_named(
    clinical: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name))
    assert main(["export", "--onnx", str(tmp_path / "out.onnx"), "--ensemble", str(clinical)]) == 2
    said = capsys.readouterr()
    assert said.err == "lymphtune: export --onnx needs onnxruntime: pip install 'lymphtune[onnx]'\n" and said.out == ""


def test_members_that_judge_bags_of_one_size_are_refused(mixed: Ensemble, tmp_path: Path) -> None:
    path = Path(shutil.copytree(mixed.path, tmp_path / "fixed"))
    rewrite(path, lambda given: of_kind(given, "model")[0]["configuration"]["data"].update(bag_size="fixed:2"))
    with pytest.raises(InputError, match="has members with 'bag_size: fixed', which predict from several samples"):
        export_onnx(path, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
