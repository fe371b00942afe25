"""Search spaces: what is drawn from them, and every refusal with its file and its place inside."""

import itertools
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphtune.config import Configuration, configuration
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, write_yaml
from lymphtune.spaces import BASELINES, SHIPPED, Published, Space, draw, find_yaml, load_space, places, shipped


def space(folder: Path, text: str) -> Space:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_space(str(path))


def network(text: str) -> str:
    """Return a space of small networks whose learning rate is `text`."""
    return f"configuration:\n  model: {{encoder: vanilla}}\n  training: {{learning_rate: {text}}}\n"


@pytest.mark.parametrize("name", shipped(SHIPPED))
def test_a_shipped_space_gives_configurations(name: str, tmp_path: Path) -> None:
    loaded = load_space(name)
    assert loaded.name == name and loaded.about
    for number in range(20):
        chosen = loaded.sample(0, number)
        assert isinstance(chosen, Configuration)
        write_yaml(tmp_path / "config.yaml", chosen.as_yaml())
        assert configuration(read_yaml(tmp_path / "config.yaml"), "x") == chosen


@pytest.mark.parametrize("name", ["images", "mixed", "clinical", "tiny", "frozen", "everything"])
def test_space_seed_and_number_alone_decide(name: str) -> None:
    first, again = load_space(name), load_space(name)
    forwards = [first.sample(3, number) for number in range(10)]
    backwards = [again.sample(3, number) for number in reversed(range(10))][::-1]
    assert forwards == backwards
    assert forwards != [first.sample(4, number) for number in range(10)]
    assert len({str(chosen.as_yaml()) for chosen in forwards}) > 5


def drawn_in_order(node: Any, rng: np.random.Generator) -> Any:
    """Return a tree's values as they have been drawn from the start: runs on disk are extended by the same numbers."""
    kind = next(iter(node)) if isinstance(node, dict) and len(node) == 1 else ""
    if kind == "choose":
        return drawn_in_order(node["choose"][rng.integers(len(node["choose"]))], rng)
    if kind == "integer":
        return int(rng.integers(*node[kind], endpoint=True))
    if kind in ("uniform", "log_uniform"):
        low, high = node[kind]
        value = rng.uniform(low, high) if kind == "uniform" else np.exp(rng.uniform(np.log(low), np.log(high)))
        return min(max(float(f"{value:.4g}"), low), high)
    return {key: drawn_in_order(value, rng) for key, value in node.items()} if isinstance(node, dict) else node


@pytest.mark.parametrize("name", [name for name in shipped(SHIPPED) if not load_space(name).grid])
def test_a_seed_s_configurations_stay_what_they_were(name: str) -> None:
    loaded = replace(load_space(name), distinct=False)
    for seed, number in itertools.product((0, 7), range(30)):
        wanted = drawn_in_order(loaded.tree, np.random.default_rng([seed, number]))
        assert loaded.sample(seed, number) == configuration(wanted, name)


class Last:
    """Takes the last entry and the upper end, and notes where it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, float]] = []

    def choice(self, path: str, n: int) -> int:
        self.asked.append((path, "choose", n))
        return n - 1

    def number(self, path: str, kind: str, low: float, high: float) -> float:
        self.asked.append((path, kind, high))
        return high


def test_a_path_names_the_branches_taken_and_twins_share_theirs(tmp_path: Path) -> None:
    forest = "random_forest: {min_leaf: {integer: [2, 20]}}"
    sampled = space(tmp_path, f"configuration: {{clinical: {{choose: [svm, {{{forest}}}, {{{forest}}}]}}}}")
    last = Last()
    chosen, values = draw(sampled.tree, last)
    assert chosen == {"clinical": {"random_forest": {"min_leaf": 20}}}
    assert last.asked == [
        ("clinical.choose", "choose", 3),
        ("clinical.choose[1].random_forest.min_leaf.integer", "integer", 20),
    ]
    assert values == {"clinical.choose": 2, "clinical.choose[1].random_forest.min_leaf.integer": 20}


def rows_of(points: list[Configuration]) -> Counter[tuple[str, ...]]:
    """Return how often each row of the study's table occurs: (encoder, filters, fusion) or (clinical word)."""
    rows: list[tuple[str, ...]] = []
    for point in points:
        if point.clinical is not None:
            rows.append((point.clinical.word,))
        else:
            assert point.model is not None
            encoder = point.model.encoder
            rows.append((encoder.word, str(getattr(encoder.options, "filters", "")), point.model.fusion.word))
    return Counter(rows)


def test_the_study_is_a_grid_of_its_fixed_rows() -> None:
    study = load_space("study")
    assert study.grid and study.n_points == 11
    points = [study.sample(0, number) for number in range(11)]
    wanted = [
        ("plain", "32", "none"),
        ("resnet", "32", "none"),
        ("resnet", "64", "none"),
        ("vanilla", "", "none"),
        ("resnet", "32", "concat"),
        ("resnet", "64", "concat"),
        ("resnet", "32", "gated"),
        ("logistic",),
        ("svm",),
        ("random_forest",),
        ("mlp",),
    ]
    assert rows_of(points) == Counter(wanted)
    for point in points:
        if point.model is not None and point.training is not None:
            assert (point.data.crop_px, point.data.bag_size, point.training.patients_per_step) == (224, None, 1)
            rate = (point.training.learning_rate, point.training.schedule.word)
            assert rate == ((5e-6, "constant") if point.model.fusion.word == "none" else (5e-4, "study_step"))
            assert (point.training.optimiser, point.data.flips, point.data.quarter_turns) == ("adam", True, False)
            assert point.picks_epoch and point.model.aggregator.word == "prediction_mean"
            head = point.model.head
            wide = head.word == "mlp" and head.options.hidden == [1000, 500, 100]
            assert wide == (point.model.fusion.word == "concat")
    assert [study.sample(0, number) for number in range(11, 22)] == points
    assert [study.sample(9, number) for number in range(11)] == points  # nothing is drawn


def test_the_study_s_rows_are_named_after_its_points() -> None:
    study = load_space("study")
    assert len(study.rows) == study.n_points
    assert (study.suggested.epochs, study.suggested.folds, study.suggested.repeats) == (120, 1, 5)
    for number, row in enumerate(study.rows):
        chosen = study.sample(0, number)
        assert (chosen.clinical is not None) == (row.name in NAMES_OF_CLINICAL)
        if chosen.model is not None:
            assert chosen.model.fusion.word == {"mixed": "concat", "gated": "gated"}.get(row.name.split()[0], "none")
            wide = re.search("K=(\\d+)", row.name)
            assert wide is None or chosen.model.encoder.options.filters == int(wide[1])


def test_the_study_s_published_figures_are_those_of_its_table_2() -> None:
    figures = {
        row.name: (row.published.balanced_accuracy, row.published.recall, row.published.auc, row.published.kaggle)
        for row in load_space("study").rows
        if row.published is not None
    }
    assert figures == {
        "Deep CNN": (0.80, 0.84, 0.84, 0.78),
        "ResNet K=32": (0.78, 0.73, 0.84, 0.71),
        "ResNet K=64": (0.86, 0.88, 0.88, 0.84),
        "vanilla CNN": (None, None, None, 0.63),
        "mixed K=32": (0.94, 0.96, 0.97, 0.83),
        "mixed K=64": (0.90, 0.88, 0.93, 0.78),
        "support vectors": (0.842, None, None, None),
        "random forest": (0.874, None, None, None),
        "MLP on age, count": (0.641, None, None, None),
    }


NAMES_OF_CLINICAL = {"logistic regression", "support vectors", "random forest", "MLP on age, count"}
TWO_ROWS = "grid: true\nconfiguration: {clinical: {choose: [svm, logistic]}}\n"


def test_a_grid_s_rows_have_names_and_what_was_published(tmp_path: Path) -> None:
    named = space(tmp_path, f"{TWO_ROWS}rows: [{{name: a, published: 0.8}}, {{name: b}}]\nnote: as they say")
    assert [(row.name, row.published) for row in named.rows] == [("a", Published(balanced_accuracy=0.8)), ("b", None)]
    more = space(tmp_path, f"{TWO_ROWS}rows: [{{name: a, published: {{auc: 1, kaggle: 0}}}}, {{name: b}}]")
    assert more.rows[0].published == Published(auc=1, kaggle=0)
    assert named.note == "as they say"
    bare = space(tmp_path, TWO_ROWS)
    assert bare.rows == () and bare.note == ""


GRID = """
grid: true
configuration:
  choose:
    - model:
        encoder:
          choose: [vanilla, {resnet: {filters: {choose: [4, 8]}, pooling: {choose: [average, flatten]}}}]
        fusion: {choose: [none, concat]}
      data: {crop_px: {choose: [40, 64, 96]}}
    - clinical: {choose: [logistic, svm]}
"""


def test_a_grid_holds_every_combination_once(tmp_path: Path) -> None:
    grid = space(tmp_path, GRID)
    assert grid.n_points == 5 * 2 * 3 + 2
    points = [grid.sample(0, number) for number in range(32)]
    assert len({str(point.as_yaml()) for point in points}) == 32
    crops = [point.data.crop_px for point in points[:30]]
    assert crops == [40, 64, 96] * 10  # the last key changes fastest
    assert grid.sample(0, 32) == points[0]


def test_a_vast_grid_is_counted_at_once(tmp_path: Path) -> None:
    many = f"{{choose: [{', '.join(str(1 + n) for n in range(1000))}]}}"
    grid = space(
        tmp_path,
        f"""
grid: true
configuration:
  model: {{encoder: {{resnet: {{filters: {many}}}}}, head: {{mlp: {{hidden: [8], dropout: 0}}}}}}
  data: {{bag_size: {many}}}
  training: {{patients_per_step: {many}}}
""",
    )
    assert grid.n_points == 10**9
    chosen = grid.sample(0, 123_456_789)
    assert chosen.model is not None and chosen.training is not None
    assert (chosen.model.encoder.options.filters, chosen.data.bag_size) == (124, 457)
    assert chosen.training.patients_per_step == 790


def test_options_of_one_alternative_never_reach_another(tmp_path: Path) -> None:
    sampled = space(
        tmp_path,
        """
configuration:
  choose:
    - model:
        encoder:
          choose:
            - resnet: {filters: {choose: [4, 8]}}
            - vanilla: {pooling: {choose: [average, flatten]}}
            - plain
      training: {weight_decay: {uniform: [0.5, 0.9]}}
    - clinical: {choose: [{svm: {C: {uniform: [2, 3]}}}, logistic]}
""",
    )
    sampled, seen = replace(sampled, distinct=False), set()
    for number in range(200):
        chosen = sampled.sample(1, number)
        given_ = chosen.as_yaml()
        part = given_["model"]["encoder"] if chosen.kind == "network" else given_["clinical"]
        ((word, options),) = part.items()
        seen.add((word, *options.values()))
        if word == "svm":
            assert 2 <= options["C"] <= 3
        if chosen.training is not None:
            assert 0.5 <= chosen.training.weight_decay <= 0.9
    assert {(word, *rest) for word, *rest in seen if word not in ("svm", "logistic")} == {
        ("resnet", 4, "average", "batch"),
        ("resnet", 8, "average", "batch"),
        ("vanilla", "average"),
        ("vanilla", "flatten"),
        ("plain", 32, "average", "batch"),
    }
    assert ("logistic", 1.0) in seen


def test_an_entry_given_twice_is_drawn_twice_as_often(tmp_path: Path) -> None:
    sampled = space(tmp_path, "configuration: {clinical: {choose: [svm, svm, logistic]}}")
    sampled = replace(sampled, distinct=False)
    words = Counter(sampled.sample(0, number).title for number in range(600))
    assert 360 < words["clinical svm"] < 440


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["uniform", "log_uniform", "integer"]),
    st.floats(1e-5, 0.99, allow_subnormal=False),
    st.floats(1e-9, 0.9),
    st.integers(0, 2**32),
)
def test_what_is_drawn_lies_in_its_range(
    tmp_path_factory: pytest.TempPathFactory, kind: str, low: float, width: float, seed: int
) -> None:
    bounds: list[float] = [low, min(low + width, 1.0)] if kind != "integer" else [int(low * 50) + 1, 60]
    key = "weight_decay" if kind != "integer" else "patients_per_step"
    text = f"configuration: {{model: {{encoder: vanilla}}, training: {{{key}: {{{kind}: {bounds}}}}}}}"
    if not bounds[0] < bounds[1]:
        return
    sampled = space(tmp_path_factory.getbasetemp(), text)
    values = [getattr(sampled.sample(seed, number).training, key) for number in range(20)]
    assert all(bounds[0] <= value <= bounds[1] for value in values)


def test_both_ends_of_an_integer_range_are_drawn_and_logarithms_are_even(tmp_path: Path) -> None:
    whole = space(tmp_path, "configuration: {clinical: {random_forest: {min_leaf: {integer: [2, 4]}}}}")
    clinical = [whole.sample(0, number).clinical for number in range(60)]
    assert {part.options.min_leaf for part in clinical if part is not None} == {2, 3, 4}
    rates = space(tmp_path, network("{log_uniform: [1e-4, 1]}"))
    training = [rates.sample(0, number).training for number in range(400)]
    logarithms = np.log10([section.learning_rate for section in training if section is not None])
    assert np.histogram(logarithms, 4, (-4, 0))[0].min() > 70


def test_what_a_space_suggests(tmp_path: Path) -> None:
    bare = space(tmp_path, "configuration: {clinical: svm}")
    assert bare.suggested.model_dump() == {"trials": 20, "epochs": 30, "folds": 5, "repeats": 1}
    assert bare.name == "mine" and bare.about == "" and not bare.grid and bare.n_points is None
    some = space(tmp_path, "suggested: {folds: 3}\nabout: mine\ngrid: true\nconfiguration: {clinical: svm}")
    assert some.suggested.folds == 3 and some.about == "mine" and some.n_points == 1


CLINICAL = "configuration: {clinical: svm}"
RANGE = "configuration.training.learning_rate"

REFUSED = [
    ("- a", ": expected a mapping with 'configuration'; found list"),
    ("", ": expected a mapping with 'configuration'; found NoneType"),
    ("about: x", ": expected a mapping; found nothing (YAML reads an empty value, ~ and null so)"),
    (f"{CLINICAL}\nconfigurations: 1", ": has no 'configurations'; there are about, configuration, grid, note, rows"),
    (f"{CLINICAL}\n3: 1", ": has no '3'; there are about, configuration, grid, note, rows"),
    (f"{CLINICAL}\ngrid: 1", ": grid: expected true or false; found 1"),
    (f"{CLINICAL}\nsuggested:", ": suggested: expected a mapping; found nothing (YAML reads an empty"),
    (f"{CLINICAL}\nsuggested: {{trials: ten}}", ": suggested.trials: input should be a valid integer; found 'ten'"),
    (f"{CLINICAL}\nsuggested: {{folds: 1.5}}", ": suggested.folds: input should be a valid integer"),
    (f"{CLINICAL}\nsuggested: {{epochs: 0}}", ": suggested.epochs: input should be greater than or equal to 1; f"),
    (f"{CLINICAL}\nsuggested: {{trails: 1}}", ": suggested has no 'trails'; there are epochs, folds, repeats, trials"),
    ("configuration: {model: {encoder: vanila}}", ": model.encoder has no 'vanila'; there are "),
    (
        "configuration: {model: {encoder: {choose: [vanilla, {choose: [{resnet: {filters: {choose: [4, a]}}}]}]}}}",
        ": model.encoder.resnet.filters: input should be a valid integer; found 'a'",
    ),
    ("configuration: {choose: [{clinical: svm}, {clinical: {choose: [svm, smv]}}]}", ": clinical has no 'smv'; there"),
    ("configuration: {clinical: {svm: {C: {uniform: [-1, 1]}}}}", ": clinical.svm.C: input should be greater than 0"),
    ("configuration: {clinical: {choose: []}}", ": configuration.clinical.choose: expected a list with at least one"),
    ("configuration: {clinical: {choose: svm}}", ": configuration.clinical.choose: expected a list with at least one"),
    (
        "configuration: {clinical: {choose: [svm, {svm: {C: {choose: {a: 1}}}}]}}",
        ": configuration.clinical.choose[1].svm.C.choose: expected a list with at least one entry; found {'a': 1}",
    ),
    (
        "configuration: {clinical: {choose: [svm], logistic: {}}}",
        ": configuration.clinical: 'choose' must stand alone; found beside ['logistic']",
    ),
    (network("{uniform: [1e-4, 1e-3], 3: 4}"), f": {RANGE}: 'uniform' must stand alone; found beside ['3']"),
    (network("{uniform: []}"), f": {RANGE}.uniform: expected two numbers [low, high]; found []"),
    (network("{uniform: 0.1}"), f": {RANGE}.uniform: expected two numbers [low, high]; found 0.1"),
    (network("{uniform: [1e-4, 2e-4, 3e-4]}"), f": {RANGE}.uniform: expected two numbers [low, high]; found [0.0001"),
    (network("{uniform: [low, high]}"), f": {RANGE}.uniform: expected two numbers [low, high]; found ['low', 'high']"),
    (network("{uniform: [false, true]}"), f": {RANGE}.uniform: expected two numbers [low, high]; found [False, True]"),
    (network("{uniform: [1e-4, .inf]}"), f": {RANGE}.uniform: expected two numbers [low, high]; found [0.0001, inf]"),
    (network("{uniform: [.nan, 1]}"), f": {RANGE}.uniform: expected two numbers [low, high]; found [nan, 1]"),
    (network("{uniform: [1, 1]}"), f": {RANGE}.uniform: the range is empty; found [1, 1], low must be below high"),
    (network("{log_uniform: [1, 1e-3]}"), f": {RANGE}.log_uniform: the range is empty; found [1, 0.001], low must be"),
    (network("{log_uniform: [0, 1]}"), f": {RANGE}.log_uniform: a logarithmic range starts above 0; found [0, 1]"),
    (network("{integer: [1, 2.0]}"), f": {RANGE}.integer: expected two whole numbers [low, high]; found [1, 2.0]"),
    (f"grid: true\n{network('{uniform: [1e-4, 1e-3]}')}", ": a grid takes no ranges; found {'uniform': [0.0001"),
    (f"{TWO_ROWS}rows: [{{name: a}}]", ": rows: expected a name for each of the grid's points; found 1"),
    (f"{TWO_ROWS}rows: [{{name: a}}, {{name: b}}, {{name: c}}]", ": rows: expected a name for each of the grid's poin"),
    (f"{CLINICAL}\nrows: [{{name: a}}]", ": rows: expected a name for each of the grid's points; found 1"),
    (f"{TWO_ROWS}rows: [{{name: a}}, {{nmae: b}}]", ": rows.1"),
    (f"{TWO_ROWS}rows: [{{name: a, sd: 1}}, {{name: b}}]", ": rows.0 has no 'sd'; there are name, published"),
    (f"{TWO_ROWS}rows: [{{name: a, published: 80}}, {{name: b}}]", ": rows.0.published.balanced_accuracy: input"),
    (f"{TWO_ROWS}rows: [{{name: a, published: {{auc: 84}}}}, {{name: b}}]", ": rows.0.published.auc: input should be"),
    (f"{TWO_ROWS}rows: [{{name: a, published: {{acc: 1}}}}, {{name: b}}]", ": rows.0.published has no 'acc'; there"),
    (f"{TWO_ROWS}rows: two", ": rows: input should be a valid tuple; found 'two'"),
    ("configuration: {clinical: svm", ", line 1: not YAML ("),
    ("configuration: &a {choose: [*a]}", ", line 1: not YAML (an alias inside what it names)"),
    ("configuration: &a {model: *a}", ", line 1: not YAML (an alias inside what it names)"),
    ("configuration: {clinical: svm}\nabout: &a [*a]", ", line 2: not YAML (an alias inside what it names)"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=range(len(REFUSED)))
def test_what_does_not_fit_is_said_with_file_and_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'mine.yaml'}{said}")) as caught:
        space(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["choose", "model"])
def test_an_alias_bomb_is_refused_at_once(tmp_path: Path, word: str) -> None:
    lines = [f"a0: &a0 {{{word}: [{', '.join(['svm'] * 10)}]}}"]
    lines += [f"a{n}: &a{n} {{{word}: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    with pytest.raises(InputError, match=r"mine.yaml, line 5: not YAML \(more than 100000 values\)"):
        space(tmp_path, "\n".join(lines) + "\nconfiguration: *a11")


def test_a_missing_file_and_an_unknown_name_are_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none.yaml")
    with pytest.raises(
        InputError, match=re.escape(f"{path}: no such file; a shipped one goes by its name: clinical, ")
    ):
        load_space(path)
    with pytest.raises(
        InputError, match="search_spaces has no 'mixd'; there are clinical, everything, frozen, images, mi"
    ):
        load_space("mixd")
    with pytest.raises(InputError, match="search_spaces has no ''"):
        load_space("")
    with pytest.raises(InputError, match="no such file"):
        load_space(f"{tmp_path}/")
    assert find_yaml("mixed", SHIPPED).name == "mixed.yaml"


PLAIN: st.SearchStrategy[Any] = st.sampled_from(["vanilla", "svm", 3, 0.5, None, True])
WORDS = st.sampled_from(["choose", "uniform", "integer", "log_uniform", "model", "encoder", "clinical", "training"])
TREES = st.recursive(
    PLAIN | st.lists(PLAIN, max_size=2),
    lambda inner: st.dictionaries(WORDS, inner | st.lists(inner, max_size=3), max_size=3),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(TREES, st.booleans())
def test_any_tree_is_a_space_or_refused(tmp_path_factory: pytest.TempPathFactory, tree: Any, grid: bool) -> None:
    """And what is accepted whole gives nothing but configurations."""
    path = tmp_path_factory.getbasetemp() / "tree.yaml"
    write_yaml(path, {"grid": grid, "configuration": tree})
    try:
        loaded = load_space(str(path))
    except InputError as error:
        assert str(error).startswith(str(path))
    else:
        for seed, number in itertools.product((0, 1), range(5)):
            assert isinstance(loaded.sample(seed, number), Configuration)


@pytest.mark.parametrize("grid", [False, True])
def test_what_was_drawn_is_at_the_tree_s_places(tmp_path: Path, grid: bool) -> None:
    own = space(tmp_path, GRID if grid else GRID.replace("grid: true", "").replace("[40, 64, 96]", "[40, 40, 96]"))
    own = replace(own, distinct=False)
    known = {place.path: place for place in places(own.tree)}
    seen = set()
    for number in range(60):
        plain, values = own.sampled(0, number)
        assert configuration(plain, "") == own.sample(0, number)
        assert set(values) <= set(known) and all(0 <= values[path] < len(known[path].entries) for path in values)
        seen |= set(values)
    assert seen == set(known)
    assert known["choose[0].model.encoder.choose[1].resnet.filters.choose"].keys == (
        "model",
        "encoder",
        "resnet",
        "filters",
    )


def few(folder: Path, **parts: Any) -> Space:
    write_yaml(folder / "few.yaml", {"configuration": parts})
    return load_space(str(folder / "few.yaml"))


def test_no_configuration_is_drawn_twice_nor_one_of_a_baseline() -> None:
    everything = load_space("everything")
    sampled = [everything.sample(0, number).as_yaml() for number in range(60)]
    assert len({str(one) for one in sampled}) == 60
    baselines = [configuration({"clinical": word}, "test").as_yaml() for word in BASELINES]
    assert not any(one in baselines for one in sampled)
    before = replace(everything, distinct=False)
    assert any(before.sample(0, number).as_yaml() in baselines for number in range(60))
    again = load_space("everything")
    assert sampled == [again.sample(0, number).as_yaml() for number in reversed(range(60))][::-1]


def test_a_space_of_few_configurations_is_counted(tmp_path: Path) -> None:
    space = few(tmp_path, model={"encoder": {"resnet": {"filters": {"choose": [8, 16, 16, 32]}}}})
    assert [space.count(0, wanted) for wanted in (2, 3, 12)] == [2, 3, 3]
    assert len({space.sample(0, number).title for number in range(3)}) == 3
    assert space.sample(0, 3) == space.sample(0, 0)


def test_a_space_of_baselines_alone_is_refused(tmp_path: Path) -> None:
    space = few(tmp_path, clinical={"choose": ["logistic", "svm"]})
    with pytest.raises(InputError, match="few: every configuration is a baseline, which each search trains anyway"):
        space.sample(0, 0)
    assert few(tmp_path, clinical={"choose": ["logistic", {"svm": {"C": 3.0}}]}).count(0, 5) == 1
