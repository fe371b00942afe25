"""Configurations: every refusal in words, defaults written out, and the same again after YAML."""

import datetime
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lymphtune import registry
from lymphtune.config import Configuration, configuration, digest, parse_part, shown
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, write_yaml

RESNET = {"model": {"encoder": "resnet"}}
HIDDEN = {"hidden": [0]}

REFUSED: list[tuple[Any, str]] = [
    (3, "x: expected a mapping; found 3"),
    (None, "x: expected a mapping; found nothing (YAML reads an empty value, ~ and null so)"),
    ([], "x: expected a mapping; found []"),
    ({}, "x: needs 'model' (a network) or 'clinical', one of the two; found nothing"),
    ({"data": {}}, "x: needs 'model' (a network) or 'clinical', one of the two; found ['data']"),
    ({1: 2, "a": 3}, "x: needs 'model' (a network) or 'clinical', one of the two; found ['1', 'a']"),
    (RESNET | {"clinical": "svm"}, "one of the two; found ['clinical', 'model']"),
    ({"clinical": "svm", "data": {}, 3: 4}, "x: 'clinical' takes no 3, data: clinical attributes are all it"),
    (RESNET | {"modle": {}}, "x: has no 'modle'; there are clinical, data, model, training"),
    (RESNET | {4: 1}, "x: 4: keys should be strings; found 4"),
    ({"model": {}}, "x: model.encoder: field required"),
    ({"model": "resnet"}, "x: model: expected a mapping; found 'resnet'"),
    (
        {"model": {"encoder": "resnet", "haed": 1}},
        "x: model has no 'haed'; there are aggregator, encoder, fusion, head",
    ),
    ({"model": {"encoder": "resnett"}}, "x: model.encoder has no 'resnett'; there are "),
    ({"clinical": "forest"}, "x: clinical has no 'forest'; there are "),
    ({"model": {"encoder": None}}, "x: model.encoder: expected one word of "),
    ({"model": {"encoder": {"plain": {}, "vanilla": {}}}}, "found {'plain': {}, 'vanilla': {}}"),
    ({"model": {"encoder": {"plain": 3}}}, "x: model.encoder: expected one word of"),
    ({"model": {"encoder": {"resnet": {"filter": 32}}}}, "x: model.encoder.resnet has no 'filter'; there are "),
    ({"model": {"encoder": {"resnet": {"a.b": 1}}}}, "x: model.encoder.resnet has no 'a.b'; there are"),
    (
        {"model": {"encoder": {"resnet": {"filters": 2.5}}}},
        "x: model.encoder.resnet.filters: input should be a valid int",
    ),
    (
        {"model": {"encoder": {"resnet": {"filters": True}}}},
        "filters: input should be a valid integer; found true (YAML reads yes, on and true so)",
    ),
    (
        {"model": {"encoder": {"resnet": {"pooling": "max"}}}},
        "pooling: input should be 'average' or 'flatten'; found 'm",
    ),
    (
        {"model": {"encoder": {"resnet": {(1, 2): 3}}}},
        "x: model.encoder.resnet: expected plain values by name; found {",
    ),
    ({"model": {"encoder": "plain", "head": {"mlp": HIDDEN}}}, "x: model.head.mlp.hidden.0: input should be greater"),
    ({"clinical": {"logistic": {"C": 0}}}, "x: clinical.logistic.C: input should be greater than 0; found 0"),
    (
        {"clinical": {"logistic": {"C": float("inf")}}},
        "x: clinical.logistic.C: input should be a finite number; found i",
    ),
    (
        {"clinical": {"logistic": {"C": float("nan")}}},
        "x: clinical.logistic.C: input should be a finite number; found n",
    ),
    (
        {"clinical": {"logistic": {"C": 10**5000}}},
        "x: clinical.logistic: expected plain values by name; found a dict too",
    ),
    (
        {"clinical": {"logistic": {"C": datetime.date(2020, 1, 1)}}},
        "C: input should be a valid number; found '2020-01-01'",
    ),
    (RESNET | {"data": {"crop": 112}}, "x: data has no 'crop'; there are bag_size, crop_px, flips, quarter_turns"),
    (RESNET | {"data": {"crop.px": 1}}, "x: data has no 'crop.px'; there are bag_size, crop_px, flips, quarter_turns"),
    (RESNET | {"data": {"crop_px": 16}}, "x: data.crop_px: input should be greater than or equal to 40; found 16"),
    (RESNET | {"data": {"flips": 1}}, "x: data.flips: input should be a valid boolean; found 1"),
    (
        RESNET | {"data": {"bag_size": "all"}},
        "x: data.bag_size: expected a number of cells, null, fixed or fixed:N; found 'all'",
    ),
    (RESNET | {"data": {"bag_size": "fixed:0"}}, "fixed or fixed:N; found 'fixed:0'"),
    (RESNET | {"data": {"bag_size": "fixed:99999"}}, "fixed or fixed:N; found 'fixed:99999'"),
    (RESNET | {"data": {"bag_size": 0}}, "x: data.bag_size: expected a number of cells"),
    (RESNET | {"data": {"bag_size": {"fixed": 3}}}, "x: data.bag_size: expected a number of cells"),
    (RESNET | {"training": {"learning_rate": "1e-3"}}, "x: training.learning_rate: input should be a valid number; fo"),
    (
        RESNET | {"training": {"weight_decay": float("nan")}},
        "x: training.weight_decay: input should be a finite number",
    ),
    (
        RESNET | {"training": {"optimiser": "lion"}},
        "x: training.optimiser: input should be 'adam', 'adamw' or 'sgd'; f",
    ),
    (RESNET | {"training": {"schedule": "step"}}, "x: training.schedule has no 'step'; there are "),
    (
        RESNET | {"training": {"lr": 1}},
        "x: training has no 'lr'; there are checkpoint, class_weight, gradient_clip, label_sm",
    ),
]


@pytest.mark.parametrize(("given_", "said"), REFUSED, ids=range(len(REFUSED)))
def test_what_does_not_fit_is_said_with_its_place(given_: Any, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        configuration(given_, "x")
    assert str(caught.value).startswith("x: ") and "\n" not in str(caught.value)


def test_a_long_value_is_cut_in_an_error() -> None:
    assert shown("a" * 1000) == "'" + "a" * 196 + "..."
    assert shown([1, "b"]) == "[1, 'b']"
    with pytest.raises(InputError, match=r"\.\.\.$") as caught:
        configuration(RESNET | {"data": ["cell"] * 10_000}, "x")
    assert len(str(caught.value)) < 300


def test_defaults_are_written_out() -> None:
    given_ = configuration(RESNET, "x").as_yaml()
    assert list(given_) == ["model", "data", "training"]
    assert given_["model"] == {
        "encoder": {"resnet": {"filters": 32, "pooling": "average", "norm": "batch"}},
        "aggregator": {"prediction_mean": {}},
        "fusion": {"none": {}},
        "head": {"linear": {"dropout": 0.0}},
    }
    assert given_["training"]["schedule"] == {"one_cycle": {"rising": 0.3}}
    assert configuration({"clinical": {"svm": None}}, "x").as_yaml() == {"clinical": {"svm": {"C": 1.0, "gamma": 0.5}}}


@pytest.mark.parametrize("empty", ["data", "training", "clinical"])
def test_an_empty_section_takes_the_defaults(empty: str) -> None:
    """`training:` with nothing after it is null in YAML."""
    assert configuration(RESNET | {empty: None}, "x") == configuration(RESNET, "x")


def members(family: registry.Family[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from(family.words())


BAG_SIZES = st.none() | st.integers(1, 100) | st.sampled_from(["fixed", "fixed:1", "fixed:24", "fixed:9999"])


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    number = st.floats(1e-6, 1, allow_subnormal=False)
    filters = st.fixed_dictionaries({"filters": st.integers(1, 64)})
    return {
        "model": {
            "encoder": draw(members(registry.encoders) | st.fixed_dictionaries({"resnet": filters})),
            "aggregator": draw(members(registry.aggregators)),
            "fusion": draw(members(registry.fusions)),
            "head": draw(members(registry.heads)),
        },
        "data": {"crop_px": draw(st.integers(40, 224)), "bag_size": draw(BAG_SIZES)},
        "training": {"learning_rate": draw(number), "schedule": draw(members(registry.schedules))},
    }


@settings(deadline=None, max_examples=40)
@given(networks() | st.fixed_dictionaries({"clinical": members(registry.clinical_models)}))
def test_yaml_gives_an_equal_configuration(tmp_path_factory: pytest.TempPathFactory, given_: dict[str, Any]) -> None:
    chosen = configuration(given_, "x")
    assert configuration(chosen.as_yaml(), "x") == chosen
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    write_yaml(path, chosen.as_yaml())
    again = configuration(read_yaml(path), "x")
    assert again == chosen
    assert digest(again.as_yaml()) == digest(chosen.as_yaml())


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.binary(max_size=3)
    | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4) | st.integers() | st.none() | st.dates() | st.tuples(st.integers()), inner, max_size=3
        )
    ),
    max_leaves=8,
)
KNOWN = ("model", "clinical", "data", "training", "encoder", "head", "schedule", "resnet", "mlp", "filters", "hidden")
NEAR = st.recursive(
    JUNK | st.sampled_from(KNOWN),
    lambda inner: st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=2), inner, max_size=4),
    max_leaves=10,
)
LOOP: list[Any] = []
LOOP.append(LOOP)


@settings(deadline=None, max_examples=300)
@given(JUNK | NEAR)
@example({"clinical": "\ud800"})
@example({"clinical": "svm", "\ud800": 1})
@example({"clinical": {"logistic": {"C": LOOP}}})
@example({"clinical": {"mlp": {"hidden": {datetime.date(2020, 1, 1): 1}}}})
@example({"model": {"encoder": "{text}"}})
def test_junk_is_refused_with_an_input_error(junk: Any) -> None:
    try:
        assert isinstance(configuration(junk, "x"), Configuration)
    except InputError as error:
        assert str(error).startswith("x: ")


def test_the_digest_knows_values_not_their_order() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})
    assert digest({"a": 1}) != digest({"a": 2})
    assert re.fullmatch("[0-9a-f]{16}", digest(configuration(RESNET, "x").as_yaml()))


def test_a_part_is_checked_with_its_place() -> None:
    assert parse_part(registry.combiners, "top", "r.yaml: combiner").as_yaml() == {"top": {}}
    with pytest.raises(InputError, match=r"^r.yaml: combiner has no 'best'; there are .*top"):
        parse_part(registry.combiners, "best", "r.yaml: combiner")
    with pytest.raises(InputError, match=r"^r.yaml: combiner.top has no 'n'; there are"):
        parse_part(registry.combiners, {"top": {"n": 5}}, "r.yaml: combiner")


def test_titles_and_kinds() -> None:
    network = configuration(RESNET, "x")
    assert network.kind == "network" and network.title.startswith("resnet-32 none prediction_mean 112")
    clinical = configuration({"clinical": "svm"}, "x")
    assert clinical.kind == "clinical" and clinical.title == "clinical svm" and not clinical.picks_epoch
    assert configuration(RESNET | {"training": {"checkpoint": "best"}}, "x").picks_epoch


def written(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "1.e-3", ".1e-2", "0.001", "+1e-3", "1.0e-03"])
def test_yaml_reads_exponents_as_numbers(tmp_path: Path, number: str) -> None:
    assert read_yaml(written(tmp_path, f"a: {number}")) == {"a": 0.001}


@pytest.mark.parametrize("word", ["e-3", "1e", "1e-3x", "'1e-3'"])
def test_yaml_leaves_words_alone(tmp_path: Path, word: str) -> None:
    assert read_yaml(written(tmp_path, f"a: {word}")) == {"a": word.strip("'")}


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join(10 * [f'*{before}'])}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml, line 3: not YAML ('a' is given twice)"),
        ("a:\n  b: 1\n  b: 1", "x.yaml, line 3: not YAML ('b' is given twice)"),
        ("a: [1, 2\nb: 3", "x.yaml, line 2: not YAML"),
        ("a: &a [*a]", "x.yaml, line 1: not YAML (an alias inside what it names)"),
        ("a:\n  b: &b\n    c: *b", "x.yaml, line 3: not YAML (an alias inside what it names)"),
        ("a: *b", "x.yaml, line 1: not YAML (found undefined alias"),
        (BOMB, "x.yaml, line 5: not YAML (more than 100000 values)"),
        ("a: " + "[" * 5000, "x.yaml, line 1: not YAML (nested deeper than 60 levels)"),
        ("- " * 5000 + "a", "x.yaml, line 1: not YAML (nested deeper than 60 levels)"),
        ("a: 2020-13-45", "x.yaml, line 1: not YAML (no timestamp: '2020-13-45')"),
        ("a: !!int x", "x.yaml, line 1: not YAML (no int: 'x')"),
        ("a: !!bool x", "x.yaml, line 1: not YAML (no bool: 'x')"),
        ("a: !!timestamp x", "x.yaml, line 1: not YAML (no timestamp: 'x')"),
        ("a: " + "9" * 5000, "x.yaml, line 1: not YAML (a number of 5000 characters)"),
        ("a: 0x" + "f" * 50, "x.yaml, line 1: not YAML (a whole number beyond 64 bits)"),
        ("a: !!python/object/apply:os.getcwd []", "x.yaml, line 1: not YAML (could not determine a constructor"),
        ("? [a]\n: b", "x.yaml, line 1: not YAML (found unhashable key)"),
        ("a: 1\n---\nb: 2", "x.yaml, line 2: not YAML"),
        ("a: \x00", "x.yaml: not YAML"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        read_yaml(written(tmp_path, text))


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    text = "p: {q: {d: &d {<<: &e {a: 1, b: 1}, a: 2}}}\nx: {<<: *d, b: 3}"
    assert read_yaml(written(tmp_path, text)) == {"p": {"q": {"d": {"a": 2, "b": 1}}}, "x": {"a": 2, "b": 3}}


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    for name, said in [
        ("none.yaml", "no such file"),
        ("latin.yaml", "not a text file in UTF-8"),
        ("", "not a file; expected a YAML file"),
    ]:
        with pytest.raises(InputError, match=re.escape(f"{tmp_path / name}: {said}")):
            read_yaml(tmp_path / name)


YAML_PIECES = st.sampled_from(
    [*"abc01:-?&*!|>%@`'\"#,[]{}\n ", "  ", ": ", "- ", "&a ", "*a", "<<: ", "!!int ", "1e9", "\t"]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(YAML_PIECES, max_size=25).map("".join) | st.text(max_size=20).filter(str.isprintable))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), text)
    try:
        read_yaml(path)
    except InputError as error:
        assert str(error).startswith(str(path))


def test_fixed_bags_are_written_out_at_the_size_of_the_smallest() -> None:
    fixed, given_, plain = (configuration(RESNET | {"data": {"bag_size": s}}, "x") for s in ("fixed", "fixed:7", 7))
    assert fixed.with_bags_of(5).as_yaml()["data"]["bag_size"] == "fixed:5"
    assert given_.with_bags_of(5) == given_ and plain.with_bags_of(5) == plain
    assert fixed.with_bags_of(7) == given_ and fixed.data.fixed and not plain.data.fixed
    clinical = configuration({"clinical": "svm"}, "x")
    assert clinical.with_bags_of(5) is clinical
