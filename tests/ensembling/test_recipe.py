"""Recipes: the shipped ones are whole, a file's mistakes are named."""

from pathlib import Path

import pytest
import yaml

from lymphtune.ensembling.recipe import Choice, all_recipes, load_recipe, parse_recipe
from lymphtune.errors import InputError


def test_the_shipped_recipes() -> None:
    recipes = {recipe.name: recipe for recipe in all_recipes()}
    assert set(recipes) == {"top", "logit_mean", "rank_mean", "median", "greedy", "stack", "blend"}
    assert all(recipe.about for recipe in recipes.values())
    assert recipes["blend"].choice == Choice("all", (("images", 1), ("clinical", 1), ("mixed", 1)))
    assert recipes["top"].choice == Choice("networks", (("any", 5),))


@pytest.mark.parametrize("name", [recipe.name for recipe in all_recipes()])
def test_a_recipe_written_out_is_the_same_recipe(name: str) -> None:
    recipe = load_recipe(name)
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.as_yaml(), sort_keys=False)), name, name) == recipe


def test_what_is_asked_for_takes_the_place_of_the_file_s() -> None:
    choice = load_recipe("greedy", 7, "clinical").choice
    assert choice == Choice("clinical", (("any", 7),))
    for top, source in ((3, None), (None, "networks")):
        with pytest.raises(InputError, match="sets the number of trials of each kind; change its 'trials'"):
            load_recipe("blend", top, source)
    with pytest.raises(InputError, match="--top 0: expected a whole number from 1"):
        load_recipe("top", 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [],
            "expected a mapping with about, combiner, from, trials, by, per_architecture, include_stopped; found list",
        ),
        ({"combiner": "top", "by": "f1"}, "by has no 'f1'; there are log_loss, brier, balanced_accuracy, auc"),
        ({"combiner": "top", "per_architecture": 0}, "per_architecture: expected a whole number from 1; found 0"),
        ({"combiner": "top", "trials": {"images": 1}}, "trials: expected a whole number from 1, or numbers for two"),
        ({"combiner": "top", "include_stopped": "yes"}, "include_stopped: expected true or false; found 'yes'"),
        ({"combiner": "top", "trials": {"images": 1, "cells": 1}}, "trials has no 'cells'; there are images, clinical"),
        ({"combiner": "top", "trials": {"images": 1, "mixed": True}}, "trials: expected a whole number"),
        ({"combiner": "top", "trials": {"images": 1, "mixed": 1}, "from": "networks"}, "taken from all; found from"),
        ({"combiner": {"greedy": {"bag": 3}}}, "combiner.greedy has no 'bag'; there are bags, fraction, start, steps"),
    ],
)
def test_mistakes_are_named(given: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(given))
    with pytest.raises(InputError, match=message):
        load_recipe(str(path))
