"""Help, the data dictionary and the README say what there is."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipeline import stages, tables
from pipeline.cli.layers import Entry, entries
from pipeline.cli.main import cli
from pipeline.layers import HEADER
from pipeline.stage import Stage

REPO = Path(__file__).resolve().parents[1]
COMMANDS = cli.list_commands(click.Context(cli))
DTYPES = re.compile(
    r"float|int|bool|string|list|object|list\[\w+\]|"
    r"date|u?int(8|16|32|64)|float(32|64)|timestamp\[us, UTC\]"
)


@pytest.fixture(scope="module")
def readme() -> str:
    """The README's text."""
    path = REPO / "README.md"
    assert path.is_file(), "README.md is not there"
    return path.read_text(encoding="utf-8")


def helped(*arguments: str) -> str:
    """What a command prints for --help."""
    done = CliRunner().invoke(
        cli, [*arguments, "--help"], terminal_width=100, catch_exceptions=False
    )
    assert done.exit_code == 0
    return done.output


def test_the_group_lists_every_command() -> None:
    """With its line, and the exit statuses."""
    text = helped()
    for name in COMMANDS:
        assert re.search(rf"^  {name}\s+\S", text, re.MULTILINE), name
    for status in ("0", "2", "65", "66", "74", "75"):
        assert re.search(rf"\b{status} \w", text), status
    assert "Example" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    """A sentence, every option explained, and a line to copy that names the command."""
    text = helped(name)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help
    assert command.help.strip().split("\n")[0].endswith(".")
    assert re.search(rf"Example.*\n?.*flowvault (--vault \S+ )?{name}\b", text), text
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help or option.metavar, f"{name} {option.opts} is not explained"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_shows_every_command(name: str, readme: str) -> None:
    """As one would type it."""
    assert f"flowvault {name}" in readme or f"`{name}`" in readme


ENTRIES = [pytest.param(each, id=each.layer.name) for each in entries()]


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_readme_names_every_layer(entry: Entry, readme: str) -> None:
    """By its own name or by that of the stage, feed or table that makes it."""
    assert f"`{entry.layer.name}`" in readme or f"`{entry.maker}`" in readme


@pytest.mark.parametrize("name", list(stages.SUMMARY))
def test_summaries_are_the_modules_first_lines(name: str) -> None:
    """What help says about a stage is what its module says."""
    module = import_module(f"pipeline.stages.{name}")
    assert module.__doc__
    assert module.__doc__.split("\n")[0] == stages.SUMMARY[name]
    assert module.STAGE.name == name


@pytest.mark.parametrize("name", list(tables.SUMMARY))
def test_summaries_of_tables_are_the_modules_first_lines(name: str) -> None:
    """What help says about a table is what its module says."""
    module = import_module(f"pipeline.tables.{name}")
    assert module.__doc__
    assert module.__doc__.split("\n")[0] == tables.SUMMARY[name]
    assert module.TABLE.name == name


def test_every_stage_module_is_a_stage_that_is_listed() -> None:
    """No module under stages is forgotten."""
    files = {path.stem for path in (REPO / "pipeline" / "stages").glob("*.py")} - {"__init__"}
    assert files == set(stages.SUMMARY)


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_column_is_explained(entry: Entry) -> None:
    """A text for the layer, a known type and a text for every column, no key twice."""
    layer = entry.layer
    assert layer.text.endswith(".")
    assert layer.folder
    assert len(set(layer.keys)) == len(layer.keys)
    assert layer.columns
    for column in layer.columns:
        assert column.text, f"{layer.name}.{column.name}"
        assert DTYPES.fullmatch(column.dtype), f"{layer.name}.{column.name}: {column.dtype}"
        assert re.fullmatch(r"[a-z][a-z0-9_]*", column.name)
    if layer.format == "jsonl":
        assert layer.keys[:4] == HEADER


@pytest.mark.parametrize("stage", stages.all_stages(), ids=lambda stage: stage.name)
def test_stages_read_layers_or_raw_data(stage: Stage) -> None:  # type: ignore[type-arg]
    """One or the other, and only what there is."""
    assert stage.raw_kind or set(stage.reads) <= set(stages.layers())
    assert bool(stage.source) != bool(stage.inputs)


def test_tables_read_what_there_is() -> None:
    """Feeds, layers of stages, and tables made before them; no name stands for two things."""
    known = {*stages.layers(), *tables.feeds()}
    assert not known & set(tables.layers())
    assert not {*stages.SUMMARY} & {*tables.SUMMARY, *tables.feeds()}
    for table in tables.all_tables():
        assert set(table.reads) <= known, table.name
        known |= {layer.name for layer in table.layers}
        for layer in table.layers:
            assert set(table.keys[layer.name]) <= set(layer.keys)


def test_layers_json_lists_every_layer() -> None:
    """One object a line, each column with name, type, unit and text, in the order of the rows."""
    done = CliRunner().invoke(cli, ["layers", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    described = {each["layer"]: each for each in map(json.loads, done.output.splitlines())}
    assert list(described) == [each.layer.name for each in entries()]
    for each in entries():
        layer, one = each.layer, described[each.layer.name]
        assert one["stage"] == each.maker
        assert one["format"] == layer.format
        assert layer.file in one["path"]
        assert one["text"] == layer.text
        assert [column["name"] for column in one["columns"]] == list(layer.keys)
        for column in one["columns"]:
            assert set(column) == {"name", "type", "unit", "text"}


@pytest.mark.parametrize("entry", ENTRIES)
def test_layers_explains_one_in_full(entry: Entry) -> None:
    """By its name, and together with its siblings by that of its maker."""
    layer = entry.layer
    for name in (layer.name, entry.maker):
        done = CliRunner().invoke(cli, ["layers", name], catch_exceptions=False)
        assert done.exit_code == 0
        for column in layer.columns:
            line = rf"^  {column.name}\s.*{re.escape(column.text)}$"
            assert re.search(line, done.output, re.MULTILINE)


def test_an_unknown_layer_is_a_usage_error_that_lists_the_known() -> None:
    """Status 2."""
    done = CliRunner().invoke(cli, ["layers", "nobody"])
    assert done.exit_code == 2
    for each in entries():
        assert each.layer.name in done.output
