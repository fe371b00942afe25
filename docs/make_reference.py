"""Write the reference pages and the page of the Python API from the code."""

import argparse
import ast
import dataclasses
import importlib
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter

import lymphtune
from lymphtune import registry
from lymphtune.cli import EXIT_CODES, parser
from lymphtune.cohort import Cohort, load_cohort
from lymphtune.config import Data, Model, Section, Training
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.procedure import asked
from lymphtune.ensembling.recipe import all_recipes
from lymphtune.registry import Family
from lymphtune.runs.run import Run
from lymphtune.searching.settings import Settings
from lymphtune.spaces import SHIPPED, find_yaml, shipped

DOCS = Path(__file__).parent
MADE = "<!-- written by docs/make_reference.py from the code: do not edit -->\n\n"
PLAIN_DEFAULTS = {"aggregator": "prediction_mean", "fusion": "none", "head": "linear", "schedule": "one_cycle"}
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
SECTIONS: dict[str, type[Section]] = {"model": Model, "data": Data, "training": Training}
PARTS = {
    "encoder": ("Encoders", registry.encoders, "`model.encoder` maps a cell's picture to a vector of features."),
    "aggregator": (
        "Aggregators",
        registry.aggregators,
        "`model.aggregator` combines the cells of a bag into one prediction.",
    ),
    "fusion": ("Fusions", registry.fusions, "`model.fusion` combines the pictures with age and lymphocyte count."),
    "head": ("Heads", registry.heads, "`model.head` maps features to one logit."),
    "schedule": ("Schedules", registry.schedules, "`training.schedule` sets the learning rate at each step."),
    "clinical": (
        "Clinical models",
        registry.clinical_models,
        "`clinical` models use age and lymphocyte count, and no pictures.",
    ),
    "scheduler": (
        "Stopping rules",
        registry.stopping_rules,
        "A stopping rule is an option of the command line (`--scheduler`), not of a space. "
        "Its options are `--grace` and `--reduction`.",
    ),
}


# ---- spaces


def spaces_page() -> str:
    """Return the page of all options of a search space: shipped spaces, sections, families."""
    lines = [
        "# Options of a search space\n",
        "This page lists all options of a configuration, with defaults and bounds. [Search spaces](../spaces.md)",
        "explains how a space samples configurations, and compares some of the options.\n",
        "## Shipped spaces\n",
        "| space | content | trials | epochs | folds | repeats |",
        "|---|---|---|---|---|---|",
        *map(_space_row, shipped(SHIPPED)),
        "\n## Sections\n",
    ]
    for name, section in SECTIONS.items():
        lines += [f"### `{name}`\n", f"{prose(section)}\n", *table(_section_options(section)), ""]
    for heading, family, about in PARTS.values():
        lines += [f"## {heading}\n", f"{about}\n"]
        for word in family.words():
            lines += _member(family, word)
    return "\n".join(lines)


def _space_row(name: str) -> str:
    given = yaml.safe_load(find_yaml(name, SHIPPED).read_text(encoding="utf-8"))
    numbers = [str(given["suggested"].get(key, "all")) for key in ("trials", "epochs", "folds", "repeats")]
    return row(f"`{name}`", given["about"], *numbers)


def _section_options(section: type[Section]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, default and meaning of every option of a section."""
    meanings = comments(section)
    for name, field in section.model_fields.items():
        if name in PARTS:
            default = PLAIN_DEFAULTS.get(name)
            takes = f"one of the [{PARTS[name][0].lower()}](#{PARTS[name][0].lower().replace(' ', '-')})"
            yield name, takes, code(default) if default else "required", meanings.get(name, "")
            continue
        whole = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        yield name, allowed(TypeAdapter(whole).json_schema()), code(field.default), meanings.get(name, "")


def _member(family: Family[Any], word: str) -> list[str]:
    """Return the section of one component: its description, its source, its options."""
    member = family[word]
    about = " ".join(filter(None, [_first(importlib.import_module(f"{family.package}.{word}")), prose(member.build)]))
    lines = [f"### `{word}`\n", f"{about}\n"]
    fields = dataclasses.fields(member.options)
    if fields and family is not registry.stopping_rules:
        lines += [*table(_part_options(member.options)), ""]
    return lines


def _part_options(options: type) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, default and meaning of every option of a component."""
    meanings, schema = comments(options), TypeAdapter(options).json_schema()
    for field in dataclasses.fields(options):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        yield field.name, allowed(schema["properties"][field.name]), code(default), meanings.get(field.name, "")


# ---- recipes


def recipes_page() -> str:
    """Return the page of all options of a recipe: shipped recipes, combiners, calibrations."""
    lines = [
        "# Options of a recipe\n",
        "This page lists the shipped recipes, and all combiners and calibrations. [Recipes](../recipes.md) explains",
        "and compares them.\n",
        "## Shipped recipes\n",
        "| recipe | content | combiner | from | trials (at most) |",
        "|---|---|---|---|---|",
    ]
    for recipe in all_recipes():
        given = recipe.as_yaml()
        kinds = given["trials"]
        trials = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) if isinstance(kinds, dict) else str(kinds)
        if (few := given["per_architecture"]) is not None:
            trials += f", {few} per architecture"
        lines.append(row(f"`{recipe.name}`", recipe.about, code(recipe.combiner.word), given["from"], trials))
    for heading, family, about in (
        ("Combiners", registry.combiners, "The `combiner` of a recipe combines the members' probabilities into one."),
        ("Calibrations", registry.calibrations, "`--calibration` calibrates the combined probability."),
    ):
        lines += [f"\n## {heading}\n", f"{about}\n"]
        for word in family.words():
            lines += _member(family, word)
            if least := getattr(family[word].build, "least_patients", None):
                lines.append(f"Requires at least {least} labelled patients.\n")
    return "\n".join(lines)


# ---- commands


def commands_page() -> str:
    """Return the page of all commands, with their options as `--help` describes them."""
    lines = [
        "# Commands\n",
        "`lymphtune COMMAND --help` prints the same descriptions.\n",
        "| exit code | meaning |\n|---|---|",
        *(row(f"`{code}`", meaning) for code, meaning in re.findall(r"^  (\d+) +(.*)$", EXIT_CODES, re.MULTILINE)),
        "",
    ]
    for name, command, about in subcommands():
        lines += [f"## `lymphtune {name}`\n", f"{about[0].upper()}{about[1:]}.\n", "```", _usage(command), "```\n"]
        if example := re.sub(r"^examples?:\n", "", command.epilog or ""):
            lines += ["For example:\n", "```", *(line.strip() for line in example.splitlines()), "```\n"]
        given = [action for action in command._actions if action.dest != "help"]
        if given:
            lines += ["| option | meaning |", "|---|---|", *map(_option_row, given), ""]
    return "\n".join(lines)


def subcommands() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Yield name, parser and a one-line description of every command."""
    for group in parser()._subparsers._group_actions:  # type: ignore[union-attr]
        about = {choice.dest: choice.help for choice in group._choices_actions}  # type: ignore[attr-defined]
        for name, command in group.choices.items():  # type: ignore[union-attr]
            yield name, command, about.get(name) or command.description or name


def _usage(command: argparse.ArgumentParser) -> str:
    """Return the command with its required arguments."""
    words, some = [command.prog], False
    for action in command._actions:
        if action.option_strings and not action.required:
            some = some or action.dest != "help"
        elif action.option_strings:
            words.append(f"{action.option_strings[-1]} {_value(action)}")
        else:
            words.append(f"[{_value(action)}]" if action.nargs == "?" else _value(action))
    return " ".join([*words, "[OPTION ...]"] if some else words)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return ""
    value = str(action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest))
    return {"?": f"[{value}]" if action.option_strings else value, "+": f"{value} ..."}.get(str(action.nargs), value)


def _option_row(action: argparse.Action) -> str:
    names = ", ".join(f"`{f'{name} {_value(action)}'.strip()}`" for name in action.option_strings or [""])
    known = vars(action) | {"prog": "lymphtune", "choices": ", ".join(map(str, action.choices or ()))}
    return row(names, (action.help or "") % known)


# ---- the Python API


def python_page() -> str:
    """Return the page of the public functions and classes, with the example of a whole study."""
    meanings = _helps("search") | comments(Settings)
    settings = [
        row(f"`{field.name}`", f"`{_plain(field.default)!r}`", meanings.get(field.name) or _helps("search")[field.name])
        for field in dataclasses.fields(Settings)
    ]
    options = [
        row(f"`{name}`", f"`{given.default!r}`", _helps("ensemble")[name])
        for name, given in inspect.signature(asked).parameters.items()
        if name != "recipe"
    ]
    lines = [
        "# Python API\n",
        "The commands call the functions below. Only what this page documents is a stable interface.",
        "[example.py](example.py) is a whole study, in cells (`# %%`) for an editor or Jupyter. It runs in about a",
        "minute:\n",
        "```python",
        (DOCS / "example.py").read_text(encoding="utf-8").strip(),
        "```\n",
        "On invalid input, all of them raise `lymphtune.errors.InputError`. Its message is one line that says where,",
        "what was found and what is expected.\n",
        *_function("lymphtune.search", lymphtune.search),
        "| setting | default | meaning |\n|---|---|---|",
        *settings,
        "",
        *_function("lymphtune.ensemble", lymphtune.ensemble),
        "| option | default | meaning |\n|---|---|---|",
        *options,
        "",
        *_function("lymphtune.load_cohort", load_cohort),
        *_class("lymphtune.Cohort", Cohort, "bag digests_of_bags ids labels labelled to_predict hash"),
        *_class("lymphtune.Ensemble", Ensemble, "load predict_proba predict score seen"),
        *_class("lymphtune.runs.run.Run", Run, "status leaderboard description configuration"),
    ]
    return "\n".join(lines)


def _helps(name: str) -> dict[str, str]:
    """Return the description of each option of a command, by its name in Python."""
    (command,) = (command for word, command, _ in subcommands() if word == name)
    return {action.dest: action.help or "" for action in command._actions}


def _function(name: str, called: Callable[..., Any], level: int = 2) -> list[str]:
    given = inspect.signature(called)
    kept = [
        each.replace(annotation=each.empty) for each in given.parameters.values() if each.name not in ("self", "cls")
    ]
    shown = given.replace(parameters=kept, return_annotation=given.empty)
    return [f"{'#' * level} `{name}{_plain_text(shown)}`\n", f"{prose(called)}\n"]


def _class(name: str, of: type, members: str) -> list[str]:
    lines = [f"## `{name}`\n", f"{prose(of)}\n"]
    for member in members.split():
        found = inspect.getattr_static(of, member)
        if isinstance(found, property):
            lines += [f"### `.{member}`\n", f"{prose(found)}\n"]
        else:
            lines += _function(f".{member}", getattr(of, member), level=3)
    return lines


def _plain(value: Any) -> Any:
    return value.as_posix() if isinstance(value, Path) else str(value) if hasattr(value, "isoformat") else value


def _plain_text(given: inspect.Signature) -> str:
    """Return a signature without the addresses and constructors of its defaults."""
    kept = [
        each if each.default is each.empty or each.default is None else each.replace(default=_plain(each.default))
        for each in given.parameters.values()
    ]
    return str(given.replace(parameters=kept))


# ---- parts of pages


def comments(of: type) -> dict[str, str]:
    """Return the comment of every field of a class: the one on its line, otherwise the lines right above it."""
    source = textwrap.dedent(inspect.getsource(of))
    lines, found = source.splitlines(), {}
    behind = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not re.match(r"# (type|fmt|noqa):", token.string)
    }
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for node in body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        texts = [behind[number] for number in range(node.lineno, (node.end_lineno or 0) + 1) if number in behind]
        above = node.lineno - 1
        while not texts and lines[above - 1].strip().startswith("#"):
            above -= 1
        found[node.target.id] = " ".join(texts or [behind[number + 1] for number in range(above, node.lineno - 1)])
    return found


def allowed(schema: dict[str, Any]) -> str:
    """Return the type and bounds of a value from its JSON schema."""
    if "anyOf" in schema:
        ways = [allowed(way) for way in schema["anyOf"] if way.get("type") != "null"]
        return ", or ".join([*ways, "null"] if len(ways) < len(schema["anyOf"]) else ways)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        least = f", {schema['minItems']} or more" if "minItems" in schema else ""
        items = re.sub(r"^(integer|number|string)", r"\1s", allowed(schema["items"]))
        return f"list of {items}{least}"
    words = {"boolean": "true or false", "integer": "integer", "number": "number", "string": "string"}
    limits = [f"{word} {schema[key]:g}" for key, word in BOUNDS.items() if key in schema]
    return " ".join([words[schema["type"]], ", ".join(limits).replace(", to", " to")]).strip()


def table(options: Iterator[tuple[str, str, str, str]]) -> list[str]:
    """Return a table of options: name, type, default, meaning."""
    head = ["| option | type | default | meaning |", "|---|---|---|---|"]
    return head + [row(f"`{name}`", kind, default, meaning) for name, kind, default, meaning in options]


def row(*cells: str) -> str:
    """Return a row of a table, with characters of tables and HTML escaped."""
    return "| " + " | ".join(_plain_words(cell.replace("|", "\\|").replace("\n", " ")) for cell in cells) + " |"


def _plain_words(text: str) -> str:
    """Escape the beginnings of HTML tags outside code."""
    return re.sub(r"`[^`]*`|<", lambda found: "&lt;" if found[0] == "<" else found[0], text)


def code(value: Any) -> str:
    """Return a default as YAML."""
    if isinstance(value, str):
        return f"`{value}`"
    text = yaml.safe_dump(value, default_flow_style=True).splitlines()[0]
    return f"`{text}`"


def prose(of: Any) -> str:
    """Return a docstring with one line per paragraph, or "" if there is none or a dataclass generated it."""
    text = inspect.cleandoc(of.__doc__ or "")
    if inspect.isclass(of) and text.startswith(f"{of.__name__}("):
        return ""
    text = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return _plain_words(re.sub(r"(?<!\n)\n(?!\n)", " ", text))


def _first(module: Any) -> str:
    return prose(module).split("\n\n")[0]


PAGES: dict[str, Callable[[], str]] = {
    "reference/spaces.md": spaces_page,
    "reference/recipes.md": recipes_page,
    "reference/commands.md": commands_page,
    "python-api.md": python_page,
}


def page(name: str) -> str:
    """Return the whole text of a page."""
    return MADE + re.sub(r"\n{3,}", "\n\n", PAGES[name]()).strip() + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(page(name), encoding="utf-8")
        print(path)
