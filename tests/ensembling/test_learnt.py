"""A bundle's learnt file gives the combiner and the calibration what they learn, and nothing else gets in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lymphtune.config import parse_part
from lymphtune.ensembling.learnt import learnt_arrays, load_learnt
from lymphtune.ensembling.procedure import Fitted, asked
from lymphtune.errors import InputError
from lymphtune.registry import calibrations, combiners
from tests.ensembling.made_up import candidates

M, P = 4, 60


def bare(combiner: str, calibration: str | None) -> Fitted:
    built = combiners[combiner].build(parse_part(combiners, combiner, "test").options)
    if calibration is None:
        return Fitted(built, None, 0.5, 0.0)
    return Fitted(built, calibrations[calibration].build(parse_part(calibrations, calibration, "test").options), 0.5, 0)


def fitted(combiner: str, calibration: str | None) -> Fitted:
    made = candidates(M, P)
    whole = bare(combiner, calibration)
    joined_P = whole.combiner.fit(made.oof_CP, made.labels_P).predict_proba(made.oof_CP)
    if whole.calibration is not None:
        whole.calibration.fit(np.clip(joined_P, 0, 1), made.labels_P)
    return whole


@pytest.mark.parametrize("combiner", combiners.words())
@pytest.mark.parametrize("calibration", [None, *calibrations.words()])
def test_what_was_learnt_comes_back(combiner: str, calibration: str | None, tmp_path: Path) -> None:
    whole, again = fitted(combiner, calibration), bare(combiner, calibration)
    save_file(learnt_arrays(whole), tmp_path / "learnt.safetensors")
    load_learnt(again, tmp_path / "learnt.safetensors", M, P)
    new_MP = np.random.default_rng(0).uniform(0, 1, (M, 9))
    np.testing.assert_array_equal(again.probability(new_MP), whole.probability(new_MP))


@pytest.mark.parametrize("word", [*combiners.words(), *calibrations.words()])
def test_all_that_is_learnt_is_declared(word: str) -> None:
    """Else it would be lost on the way through the file."""
    part = fitted(word, None).combiner if word in combiners.words() else fitted("top", word).calibration
    assert sorted(part.learns) == sorted(name for name in vars(part) if name.endswith("_"))


def set_to(key: str, value: np.ndarray) -> Callable[[dict], dict]:
    return lambda given: given | {key: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_to("combiner.config", np.zeros(1)), "'combiner.config' is not among what this ensemble learns"),
        (set_to("combiner.predict_proba", np.zeros(1)), "is not among what this ensemble learns"),
        (set_to("combiner.__class__", np.zeros(1)), "is not among what this ensemble learns"),
        (set_to("combiner.weights_M_", np.zeros(M)), "is not among what this ensemble learns"),
        (set_to("fitted.threshold", np.zeros(1)), "is not among what this ensemble learns"),
        (lambda given: {}, "'calibration.meant_' is missing"),
        (
            set_to("combiner.sorted_MP_", np.zeros((M + 1, P))),
            r"float64 \[5, 60\]; expected finite numbers of 4 members",
        ),
        (set_to("combiner.sorted_MP_", np.zeros((M, P), np.float32)), "is float32"),
        (set_to("combiner.sorted_MP_", np.full((M, P), np.nan)), "expected finite numbers"),
        (set_to("calibration.said_", np.zeros(P + 1)), "expected finite numbers"),
        (set_to("calibration.said_", np.zeros(0)), "expected finite numbers"),
        (set_to("calibration.said_", np.zeros((1, 1))), "expected finite numbers"),
        (set_to("calibration.said_", np.zeros(P)), "its arrays do not fit together"),
        (
            lambda given: given | {"calibration.meant_": given["calibration.meant_"] + 5},
            r"outside \[0, 1\] for .* inputs from 0 to 1 \(largest 5",
        ),
    ],
)
def test_anything_else_is_refused(change: Callable[[dict], dict], message: str, tmp_path: Path) -> None:
    path = tmp_path / "learnt.safetensors"
    save_file(learnt_arrays(fitted("rank_mean", "isotonic")), path)
    save_file(change(load_file(path)), path)
    untouched = bare("rank_mean", "isotonic")
    with pytest.raises(InputError, match=rf"^[^\n]*learnt.safetensors: [^\n]*{message}[^\n]*$"):
        load_learnt(untouched, path, M, P)
    assert untouched.combiner.config == asked("rank_mean").recipe.combiner.options


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\xff" * 8, b"\xff" * 7 + b"\x7f" + b"{}", b"\x02" + bytes(7) + b"{}{}"]
)
def test_a_file_that_is_none_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "learnt.safetensors").write_bytes(data)
    with pytest.raises(InputError, match=r"learnt.safetensors: (not a safetensors file|'calibration.temperature_' is)"):
        load_learnt(bare("top", "temperature"), tmp_path / "learnt.safetensors", M, P)
