"""What trials chose, by name: the configurations themselves say whether it is right."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lymphtune.files import write_yaml
from lymphtune.runs.ledger import Ledger
from lymphtune.runs.run import Run
from lymphtune.searching.choices import LONGEST, Choices, labels_of, sampled_by, short_names
from lymphtune.searching.past import LEDGER
from lymphtune.spaces import Space, Suggested, load_space, shipped


def space(tree: Any, grid: bool = False) -> Space:
    return Space("mine", "", grid, Suggested(), tree)


TREE = {
    "model": {
        "encoder": {
            "choose": [
                {"resnet": {"filters": {"choose": [8, 4]}}},
                {"resnet": {"filters": {"choose": [8, 4]}}},
                {"plain": {"filters": {"choose": [4, 16]}}},
                "vanilla",
            ]
        },
        "fusion": {"choose": ["none"]},
    },
    "training": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}, "gradient_clip": {"choose": [None, 1.0]}},
}


def test_choices_have_short_names_and_the_yaml_s_labels() -> None:
    found = Choices.of(space(TREE))
    assert {choice.name: choice.labels for choice in found.choices} == {
        "encoder": ("resnet", "plain", "vanilla"),
        "resnet.filters": ("4", "8"),
        "plain.filters": ("4", "16"),
        "learning_rate": (),
        "gradient_clip": ("null", "1"),
    }
    assert [choice.log for choice in found.choices] == [False, False, False, True, False]
    assert [choice.ordered for choice in found.choices] == [False, True, True, False, False]


@pytest.mark.parametrize("grid", [False, True])
def test_points_are_what_the_configurations_have(grid: bool) -> None:
    tree = {"model": TREE["model"]} if grid else TREE
    sampled = space(tree, grid)
    found = Choices.of(sampled)
    points = found.points([sampled.sampled(3, number)[1] for number in range(40)])
    places = {choice.name: c for c, choice in enumerate(found.choices)}
    for number, value_C in enumerate(points.values_NC):
        chosen = sampled.sample(3, number)
        assert chosen.model is not None and chosen.training is not None
        word = chosen.model.encoder.word
        assert found.choices[0].labels[int(value_C[0])] == word
        for its in ("resnet", "plain"):
            c = places[f"{its}.filters"]
            assert np.isnan(value_C[c]) == (word != its) == (points.branches_NC[number, c] < 0)
            if word == its:
                assert found.choices[c].labels[int(value_C[c])] == str(chosen.model.encoder.options.filters)
        if not grid:
            assert value_C[places["learning_rate"]] == chosen.training.learning_rate
    assert len({*points.values_NC[:, 0]}) == 3


def test_one_place_of_a_configuration_is_one_choice_whatever_the_branch() -> None:
    rates = [{"log_uniform": [1e-4, 1e-3]}, {"log_uniform": [1e-3, 1e-2]}]
    branches = [{"model": {"encoder": "vanilla"}, "training": {"learning_rate": rate}} for rate in rates]
    found = Choices.of(space({"choose": [*branches, {"clinical": {"svm": {"C": {"uniform": [1, 5]}}}}]}))
    assert [choice.name for choice in found.choices] == ["branch", "learning_rate"]
    assert len(set(found.choices[0].labels)) == 3 and found.choices[0].labels[2] == "clinical"
    points = found.sampled(300)
    assert 150 < len(points) < 250  # a third of them are no networks
    assert ((points.values_NC[:, 1] > 1e-3) == (points.branches_NC[:, 1] == 1)).all()


def test_every_shipped_space_has_names_and_labels_that_differ() -> None:
    for name in shipped("search_spaces"):
        found = Choices.of(load_space(name))
        names = [choice.name for choice in found.choices]
        assert len(set(names)) == len(names)
        for choice in found.choices:
            assert len(set(choice.labels)) == len(choice.labels) != 1
            assert all(0 < len(label) <= LONGEST for label in choice.labels)


def test_labels_tell_entries_apart_and_equal_ones_not() -> None:
    wide, narrow = {"mlp": {"hidden": [64], "dropout": 0}}, {"mlp": {"hidden": [32], "dropout": 0}}
    assert labels_of(["linear", wide, narrow, wide]) == [
        "linear",
        "mlp hidden [64]",
        "mlp hidden [32]",
        "mlp hidden [64]",
    ]
    assert labels_of([None, True, 0.5, [128, 32]]) == ["null", "true", "0.5", "[128, 32]"]
    long = [{"mlp": {"hidden": [1000, 1000, 1000, 1000, last], "dropout": 0}} for last in (1, 2)]
    assert len(set(labels_of(long))) == 2


def test_names_are_as_short_as_they_can_be() -> None:
    keys = [("a", "rate"), ("b", "rate"), ("c", "width"), ()]
    assert list(short_names(keys).values()) == ["a.rate", "b.rate", "width", "branch"]


def test_what_a_searcher_chose_is_read_from_the_ledger(tmp_path: Path) -> None:
    run, own = Run(tmp_path), space(TREE)
    values = own.sampled(9, 1)[1]
    for searcher in ("random", "tpe"):
        protocol = {"searcher": searcher, "seed": 9, "folds": 5, "repeats": 1, "epochs": 2, "trials": 6}
        cohort = {"name": "mine", "simulated": True, "hash": "", "reference_date": "2020-01-01", "data": ""}
        described = {"created": "now", "cohort": cohort, "protocol": protocol, "space": {"name": "mine"}}
        write_yaml(tmp_path / "run.yaml", described)
        if searcher == "random":
            assert sampled_by(run, own, [1, 5]) == {number: own.sampled(9, number)[1] for number in (1, 5)}
        else:
            Ledger(tmp_path / LEDGER).append({"trial": "t", "number": 1, "parameters": values})
            assert sampled_by(run, own, [1, 5]) == {1: values}
