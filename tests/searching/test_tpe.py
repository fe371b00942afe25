"""TPE over a space: what it learns from, what it may suggest, and that a record of it gives the same again."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from lymphtune.config import Configuration, configuration
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, write_yaml
from lymphtune.searching.tpe import N_RANDOM, Tpe
from lymphtune.spaces import SHIPPED, Space, load_space, shipped

DRAWN = [name for name in shipped(SHIPPED) if not load_space(name).grid]
BRANCHES = """
configuration:
  choose:
    - model: {encoder: {resnet: {filters: {choose: [4, 8, 16]}}}}
      training: {learning_rate: {log_uniform: [1e-5, 1]}, weight_decay: {uniform: [0.5, 0.9]}}
    - model: {encoder: {vanilla: {pooling: {choose: [average, flatten]}}}}
      training: {learning_rate: {log_uniform: [1e-4, 1e-1]}, patients_per_step: {integer: [2, 6]}}
    - clinical:
        choose:
          - svm: {C: {uniform: [2, 3]}}
          - logistic
          - random_forest: {min_leaf: {integer: [3, 9]}}
"""
RATE = "training.learning_rate.log_uniform"


def space(folder: Path, text: str) -> Space:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_space(str(path))


def rates(folder: Path) -> Space:
    """Return a space of one number."""
    return space(folder, "configuration: {model: {encoder: vanilla}, training: {learning_rate: {uniform: [0.001, 1]}}}")


def loss(chosen: Configuration) -> float:
    """Return a made-up log loss: resnets of 8 filters at a learning rate of 3e-4 and weight decay of .6 are best."""
    if chosen.model is None or chosen.training is None:
        return 1.0
    far = 0.15 * abs(math.log10(chosen.training.learning_rate / 3e-4))
    if chosen.model.encoder.word == "vanilla":
        return 0.5 + far + 0.02 * abs(chosen.training.patients_per_step - 4)
    return 0.2 + far + abs(chosen.training.weight_decay - 0.6) + 0.1 * (chosen.model.encoder.options.filters != 8)


def searched(tpe: Tpe, count: int, start: int = 0) -> list[Configuration]:
    """Return suggestions, told one after the other; each fifth is stopped after two epochs, each eleventh fails."""
    suggestions = []
    for number in range(start, start + count):
        suggestions.append(tpe.suggest(number))
        told(tpe, number, suggestions[-1])
    return suggestions


def told(tpe: Tpe, number: int, chosen: Configuration) -> None:
    if number % 11 == 10:
        tpe.tell(number, None, "failed")
    elif number % 5 == 4:
        tpe.tell(number, None, "stopped", [0.9, loss(chosen)])
    else:
        tpe.tell(number, loss(chosen), "done", [0.9, 0.8, loss(chosen)])


def test_it_finds_better_configurations_than_chance(tmp_path: Path) -> None:
    branches = space(tmp_path, BRANCHES)
    learnt, by_chance = [], []
    for seed in range(6):
        last = searched(Tpe(branches, seed), 50)[30:]
        learnt.append(np.mean([loss(chosen) for chosen in last]))
        by_chance.append(np.mean([loss(branches.sample(seed, number)) for number in range(30, 50)]))
    assert np.mean(learnt) < np.mean(by_chance) - 0.1
    assert sum(a < b for a, b in zip(learnt, by_chance, strict=True)) >= 5


def test_options_of_one_branch_never_reach_another(tmp_path: Path) -> None:
    tpe = Tpe(space(tmp_path, BRANCHES), 1)
    kinds = {
        0: {
            "choose",
            "choose[0].model.encoder.resnet.filters.choose",
            f"choose[0].{RATE}",
            "choose[0].training.weight_decay.uniform",
        },
        1: {
            "choose",
            "choose[1].model.encoder.vanilla.pooling.choose",
            f"choose[1].{RATE}",
            "choose[1].training.patients_per_step.integer",
        },
    }
    clinical = [
        "choose[2].clinical.choose[0].svm.C.uniform",
        "",
        "choose[2].clinical.choose[2].random_forest.min_leaf.integer",
    ]
    seen = set()
    for number, chosen in enumerate(searched(tpe, 60)):
        sampled = tpe.parameters(number)
        seen.add(branch := int(sampled["choose"]))
        assert (chosen.kind == "clinical") == (branch == 2)
        if branch < 2:
            assert set(sampled) == kinds[branch]
            assert chosen.training is not None and chosen.training.learning_rate == sampled[f"choose[{branch}].{RATE}"]
        else:
            own = clinical[int(sampled["choose[2].clinical.choose"])]
            assert set(sampled) == {"choose", "choose[2].clinical.choose", own} - {""}
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("name", DRAWN)
def test_a_shipped_space_is_suggested_and_read_back(name: str, tmp_path: Path) -> None:
    tpe = Tpe(load_space(name), 0)
    kinds = set()
    for number in range(N_RANDOM + 10):
        chosen = tpe.suggest(number)
        kinds.add(chosen.kind)
        write_yaml(tmp_path / "config.yaml", chosen.as_yaml())
        assert configuration(read_yaml(tmp_path / "config.yaml"), "x") == chosen
        assert all(type(value) in (int, float) for value in tpe.parameters(number).values())
        tpe.tell(number, 0.5 + (number * 7 % 10) / 20, "done")
    assert kinds == ({"clinical"} if name == "clinical" else {"network", "clinical"} & kinds)


def test_numbers_are_short_and_stay_in_their_range(tmp_path: Path) -> None:
    tpe = Tpe(space(tmp_path, "configuration: {clinical: {svm: {C: {log_uniform: [1.23456, 1.23461]}}}}"), 0)
    for number in range(5):
        chosen = tpe.suggest(number).as_yaml()["clinical"]["svm"]["C"]
        assert chosen in (1.23456, 1.23461, 1.235)
        ((recorded,),) = [tpe.parameters(number).values()]
        assert recorded == chosen


def test_one_seed_gives_one_search(tmp_path: Path) -> None:
    branches = space(tmp_path, BRANCHES)
    first = searched(Tpe(branches, 3), 25)
    assert searched(Tpe(branches, 3), 25) == first
    assert searched(Tpe(branches, 4), 25) != first
    assert len({str(chosen) for chosen in first}) > 20


PRINTED = """
import sys
from lymphtune.searching.tpe import Tpe
from lymphtune.spaces import load_space
tpe = Tpe(load_space(sys.argv[1]), 0)
for number in range(16):
    print(tpe.suggest(number).as_yaml())
    tpe.tell(number, (number * 7 % 10) / 10, "done")
"""


@pytest.mark.slow
def test_another_process_suggests_the_same_and_nothing_else_is_said(tmp_path: Path) -> None:
    space(tmp_path, BRANCHES)
    said = [
        subprocess.run(
            [sys.executable, "-W", "always::FutureWarning", "-c", PRINTED, str(tmp_path / "mine.yaml")],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        for hash_seed in ("1", "2")
    ]
    assert said[0].stdout == said[1].stdout and said[0].stdout.count("\n") == 16
    assert said[0].stderr == ""


def test_a_record_put_back_in_any_order_goes_on_as_the_search_would(tmp_path: Path) -> None:
    """Trials 20 and 21 still run."""
    branches = space(tmp_path, BRANCHES)
    original = Tpe(branches, 0)
    suggestions = [*searched(original, 20), original.suggest(20), original.suggest(21)]
    record = {number: json.loads(json.dumps(original.parameters(number))) for number in range(22)}

    resumed = Tpe(branches, 0)
    for number in reversed(range(22)):
        assert resumed.again(number, record[number]) == suggestions[number]
    for number in [7, 3, *range(19, 7, -1), 0, 1, 2, 4, 5, 6]:
        told(resumed, number, suggestions[number])
    assert searched(resumed, 5, start=22) == searched(original, 5, start=22)


def test_every_fate_reaches_optuna_as_what_it_is(tmp_path: Path) -> None:
    tpe = Tpe(rates(tmp_path), 0)
    for number in range(4):
        tpe.suggest(number)
    tpe.tell(0, 0.7, "done", [0.9, 0.7])
    tpe.tell(1, None, "stopped", [0.8, 0.1])
    tpe.tell(2, None, "failed")
    done, stopped, failed, running = tpe.study.trials
    assert [trial.state for trial in (done, stopped, failed, running)] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert done.value == 0.7 and stopped.value is None and failed.value is None
    assert stopped.intermediate_values == {1: 0.8, 2: 0.1}
    assert tpe.study.best_trial.number == 0
    with pytest.raises(ValueError, match="trial 3 is done with a log loss of nan"):
        tpe.tell(3, math.nan, "done")
    with pytest.raises(ValueError, match="trial 3 is done with a log loss of None"):
        tpe.tell(3, None, "done")
    with pytest.raises(ValueError, match="trial 2 has been suggested before"):
        tpe.suggest(2)


def rate(tpe: Tpe, number: int) -> float:
    return float(tpe.parameters(number)["training.learning_rate.uniform"])


def placed(tpe: Tpe, at: Callable[[int], float], tell: Callable[[int], tuple[Any, ...]], numbers: range) -> None:
    for number in numbers:
        tpe.again(number, {"training.learning_rate.uniform": at(number)})
        tpe.tell(number, *tell(number))


def suggested(tpe: Tpe, start: int) -> np.ndarray:
    """Return the learning rates of what each of 20 numbers would be given next."""
    found = []
    for number in range(start, start + 20):
        tpe.suggest(number)
        found.append(rate(tpe, number))
        del tpe.trials[number]
    return np.array(found)


def test_a_stopped_trial_with_a_low_loss_is_not_taken_for_the_best(tmp_path: Path) -> None:
    tpe = Tpe(rates(tmp_path), 0)
    placed(tpe, lambda n: 0.80 + n / 100, lambda n: (None, "stopped", [0.01]), range(10))
    placed(tpe, lambda n: 0.05 + n / 100, lambda n: (0.5 + n / 100, "done"), range(10, 20))
    assert np.median(suggested(tpe, 20)) < 0.6


def test_among_stopped_trials_the_one_that_got_further_leads(tmp_path: Path) -> None:
    tpe = Tpe(rates(tmp_path), 0)
    placed(tpe, lambda n: 0.80 + n / 100, lambda n: (None, "stopped", [0.5] * 9), range(2))
    placed(tpe, lambda n: 0.05 + n / 100, lambda n: (None, "stopped", [0.4] * 3), range(2, 20))
    assert np.median(suggested(tpe, 20)) > 0.6


def test_a_failed_trial_teaches_nothing(tmp_path: Path) -> None:
    tpe, bare = Tpe(rates(tmp_path), 0), Tpe(rates(tmp_path), 0)
    placed(tpe, lambda n: (n + 1) / 21, lambda n: (None, "failed", [0.01 * n]), range(20))
    assert list(suggested(tpe, 20)) == list(suggested(bare, 20))


def test_workers_side_by_side_try_different_things(tmp_path: Path) -> None:
    branches = space(tmp_path, BRANCHES)
    early = Tpe(branches, 0)
    assert len({str(early.suggest(number)) for number in range(8)}) == 8
    late = Tpe(branches, 0)
    searched(late, 30)
    assert len({str(late.suggest(number)) for number in range(30, 38)}) == 8


def test_what_still_runs_is_kept_away_from(tmp_path: Path) -> None:
    tpe = Tpe(rates(tmp_path), 0)
    placed(tpe, lambda n: (n + 1) / 21, lambda n: (abs((n + 1) / 21 - 0.5), "done"), range(20))
    alone = suggested(tpe, 60)
    for number in range(20, 26):
        tpe.again(number, {"training.learning_rate.uniform": 0.5})
    assert np.abs(suggested(tpe, 60) - 0.5).mean() > 1.3 * np.abs(alone - 0.5).mean()


GOOD = {
    "choose": 1,
    "choose[1].model.encoder.vanilla.pooling.choose": 0,
    f"choose[1].{RATE}": 0.001,
    "choose[1].training.patients_per_step.integer": 4,
}
MISFITS = [
    ({"choose": 3}, "choose: expected a whole number from 0 to 2; found 3"),
    ({"choose": True}, "choose: expected a whole number from 0 to 2; found true"),
    ({"choose": 0}, "choose[0].model.encoder.resnet.filters.choose is missing; expected a whole number from 0 to 2"),
    ({f"choose[1].{RATE}": 0.2}, f"choose[1].{RATE}: expected a number from 0.0001 to 0.1; found 0.2"),
    ({f"choose[1].{RATE}": "0.01"}, f"choose[1].{RATE}: expected a number from 0.0001 to 0.1; found '0.01'"),
    ({f"choose[1].{RATE}": math.nan}, f"choose[1].{RATE}: expected a number from 0.0001 to 0.1; found nan"),
    (
        {"choose[1].training.patients_per_step.integer": 4.0},
        "choose[1].training.patients_per_step.integer: expected a whole number from 2 to 6; found 4.0",
    ),
    ({"choose[0].depth.choose": 1}, "the space has no choose[0].depth.choose beside the others"),
]


@pytest.mark.parametrize(("change", "said"), MISFITS, ids=range(len(MISFITS)))
def test_parameters_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    tpe = Tpe(space(tmp_path, BRANCHES), 0)
    with pytest.raises(InputError, match=re.escape(f"mine, parameters of trial 5: {said}")):
        tpe.again(5, GOOD | change)
    assert tpe.trials == {}
    assert tpe.again(5, GOOD).kind == "network"


def test_a_grid_is_refused() -> None:
    with pytest.raises(InputError, match="study: a grid has fixed points, nothing is left to suggest: --searcher rand"):
        Tpe(load_space("study"), 0)


def test_without_optuna_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=re.escape("--searcher tpe needs optuna: pip install 'lymphtune[tpe]'")):
        Tpe(load_space("mixed"), 0)
