"""The core is pure, the contracts share their leading fields, and the docs agree with the code."""

import ast
import json
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from connectors.campaigns.model.counts import MEASURES, Counts
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.model.forms import (
    Challenge,
    DepositBonus,
    Item,
    Leaderboard,
    Mission,
    MissionStep,
    Pool,
    Prize,
    Stage,
    Teams,
)
from connectors.campaigns.model.points import Multiplier, Points
from connectors.campaigns.model.recurrence import Recurrence
from connectors.campaigns.model.who import Deposited, Eligible, Holdout, Lapsed, OptIn
from connectors.cli.main import main
from connectors.edge.lookups import LOOKUPS
from connectors.edge.routes import ROUTES
from connectors.edge.schemas import Schemas
from connectors.status.mending import MENDING
from streams.core.event import Kind
from streams.records.topics import TOPICS
from streams.settings import Settings
from streams.wire.avro import field_index
from streams.wire.contracts import SCHEMA_IDS, published, schema

ROOT = Path(__file__).parent.parent
LAYERS = ("wire", "core", "records", "formats", "stages", "telemetry", "kafka", "state", "runtime")
"""The packages of ``streams``, lowest first: each imports only from itself and from those before it."""

PURE_LAYERS = LAYERS[: LAYERS.index("telemetry")]
FILES = sorted((ROOT / "streams").rglob("*.py"))
CORE = [path for path in FILES if path.parent.name in PURE_LAYERS]
CODE = [*FILES, *sorted((ROOT / "connectors").rglob("*.py"))]
LINES_OF_A_FILE_MAX = 600
LINES_OF_A_FUNCTION_MAX = 60
POSITIONAL_MAX = 5
PURE = {
    "annotated_types", "collections", "dataclasses", "datetime", "decimal", "enum", "fastavro",
    "functools", "hashlib", "importlib", "io", "json", "msgspec", "operator", "pathlib", "pydantic",
    "pydantic_core", "re", "types", "typing", "zlib",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic"}
AVRO = sorted((ROOT / "avro").glob("*.avsc"))


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


def test_every_folder_of_streams_is_a_layer() -> None:
    assert {
        path.name for path in (ROOT / "streams").iterdir() if (path / "__init__.py").exists()
    } == set(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_layer_imports_only_from_itself_and_below(path: Path) -> None:
    layer = path.parent.name
    allowed = LAYERS[: LAYERS.index(layer) + 1] if layer in LAYERS else ()
    for name in imports(path):
        package, *inner = name.split(".")
        assert package != "connectors", f"{name_of(path)} imports {name}"
        if package == "streams" and inner[0] in LAYERS:
            assert inner[0] in allowed, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_imports_only_itself_and_pure_libraries(path: Path) -> None:
    for name in imports(path):
        package, *inner = name.split(".")
        pure = inner[0] in {*PURE_LAYERS, "errors"} if package == "streams" else package in PURE
        assert pure, f"{name_of(path)} imports {name}"


def test_no_import_runs_in_a_circle() -> None:
    modules = {name_of(path).replace("/", ".").removesuffix(".__init__"): path for path in CODE}
    needs = {
        module: {
            other
            for name in imports(path)
            for other in (name, name.rpartition(".")[0])
            if other in modules and other != module
        }
        for module, path in modules.items()
    }
    for (
        module,
        needed,
    ) in needs.items():  # a package's own file gathers its modules; they do not need it
        needed -= {module.rpartition(".")[0]}
    list(TopologicalSorter(needs).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_files_functions_and_lists_of_arguments_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LINES_OF_A_FILE_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LINES_OF_A_FUNCTION_MAX, f"{node.name} has {length} lines"
            positional = {each.arg for each in node.args.args} - {"self", "cls"}
            assert len(positional) <= POSITIONAL_MAX, f"{node.name} takes {len(positional)} arguments"


def test_every_error_stands_on_the_page_of_errors() -> None:
    """An HTTP answer, and a key found twice while JSON is read, never leave the module they are in."""
    kept = {("problems.py", "Problem"), ("definition.py", "_Twice")}
    elsewhere = {
        (path.name, node.name)
        for path in CODE
        if path != ROOT / "streams" / "errors.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)
    }
    assert elsewhere == kept


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_asks_no_clock(path: Path) -> None:
    calls = [n.func.attr for n in ast.walk(ast.parse(path.read_text()))
             if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]  # fmt: skip
    assert not CLOCKS & set(calls)


@pytest.mark.parametrize("path", AVRO, ids=lambda path: path.stem)
def test_every_field_of_every_contract_has_a_doc(path: Path) -> None:
    def check(node: Any) -> None:
        if isinstance(node, list):
            for branch in node:
                check(branch)
        elif isinstance(node, dict):
            if node.get("type") == "record":
                assert node["doc"]
                for field in node["fields"]:
                    assert field["doc"], f"{node['name']}.{field['name']}"
                    check(field["type"])
            for inner in ("items", "values"):
                check(node.get(inner))

    check(json.loads(path.read_text()))


def test_every_contract_has_a_schema_id_and_every_topic_a_contract() -> None:
    assert {path.stem for path in AVRO} == set(SCHEMA_IDS)
    assert {topic.contract for topic in TOPICS} - {None} == set(SCHEMA_IDS)


def test_canonical_contracts_begin_with_the_same_fields() -> None:
    leads = {
        json.dumps(fields[: field_index(schema(kind.contract), "occurred_at") + 1])
        for kind in Kind
        if (fields := _fields(kind.contract))
    }
    assert len(leads) == 1


def _fields(contract: str) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = json.loads((ROOT / "avro" / f"{contract}.avsc").read_text())[
        "fields"
    ]
    return fields


# Docs ----------------------------------------------------------------------------------------


def doc(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def test_every_setting_is_documented_with_its_default() -> None:
    text = doc("operations")
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        row = re.search(rf"^\| `ROUNDHOUSE_{name.upper()}` \|(.*)$", text, re.MULTILINE)
        assert row, f"ROUNDHOUSE_{name.upper()} is not in docs/operations.md"
        assert default in row[1], f"default of {name} in docs/operations.md: {row[1]}"


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = {f"ROUNDHOUSE_{name.upper()}" for name in Settings.model_fields}
    known |= {option.envvar for option in main.params if isinstance(option.envvar, str)}
    for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "docker-compose.yml"]:
        assert set(re.findall(r"ROUNDHOUSE_[A-Z_]+", path.read_text())) <= known, path.name


def test_every_topic_is_documented_with_its_key() -> None:
    for topic in TOPICS:
        row = re.search(
            rf"^\| `{re.escape(topic.name)}` \| (.*?) \| ", doc("data-platform"), re.MULTILINE
        )
        assert row, f"{topic.name} is not in docs/data-platform.md"
        assert row[1].strip("`").replace("\\|", "|") == (topic.key or "none"), topic.name


def test_every_route_and_error_code_is_documented() -> None:
    text = doc("operators")
    for path in (*(route.path for route in ROUTES), *LOOKUPS):
        assert path in text
    for code in _codes():
        assert f"`{code}`" in text, f"error code {code} is not in docs/operators.md"


def test_every_way_to_mend_an_error_is_documented_in_the_same_words() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", doc("operators"), re.MULTILINE)
    assert dict(rows).items() >= MENDING.items()
    assert len(rows) == len(MENDING)


def test_every_route_of_schemas_is_documented() -> None:
    for path in Schemas("", (), dict, timeout_s=1).reads:
        assert f"`{path}`" in doc("data-platform"), path


def test_every_published_version_of_a_contract_is_documented_with_what_is_new_in_it() -> None:
    fields: dict[str, set[str]] = {}
    for version in published():
        row = re.search(
            rf"^\| `{version.contract}` \| {version.number} \| {version.schema_id} "
            rf"\| {re.escape(version.release)} \|(.*)\|$",
            doc("data-platform"),
            re.MULTILINE,
        )
        assert row, f"{version.contract} {version.number} is not in docs/data-platform.md"
        now = {field["name"] for field in version.schema["fields"]}
        new = now - fields.get(version.contract, now)
        assert set(re.findall(r"`(\w+)`", row[1])) == new, f"{version.contract} {version.number}"
        fields[version.contract] = now


def _codes() -> set[str]:
    """The error codes in the code: the first arguments of the calls that take one."""
    makers = {"PydanticCustomError", "EnvelopeError", "TooManyItems", "_invalid", "error", "_not_json"}
    found = {"not_json", "wrong_envelope", "duplicate_key", "required", "id_conflict"}
    edge = sorted((ROOT / "connectors" / "edge").glob("*.py"))
    for path in [*CORE, *edge]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = (
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            )
            at = 1 if name == "Problem" else 0
            if (name in makers or name == "Problem") and len(node.args) > at:
                argument = node.args[at]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.add(argument.value)
    return {code for code in found if re.fullmatch(r"[a-z_]+", code)}


def commands(group: click.Group, *above: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)
        elif not command.hidden:
            yield " ".join((*above, name))


def test_every_command_that_is_documented_exists() -> None:
    rows = re.findall(r"^\| (`roundhouse .*?) \|", doc("operations"), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`roundhouse ([a-z -]+)`", row)}
    assert documented == set(commands(main))


def test_every_command_is_documented_and_explains_itself() -> None:
    text = doc("operations")
    for name in commands(main):
        assert f"`roundhouse {name}" in text, f"roundhouse {name} is not in docs/operations.md"
        result = CliRunner().invoke(main, [*name.split(), "--help"])
        assert result.output.startswith(f"Usage: main {name}"), result.output


def test_every_field_and_measure_of_a_campaign_is_documented() -> None:
    text = doc("campaigns")
    parts = (
        Campaign, Eligible, Deposited, Lapsed, OptIn, Holdout, Counts, Points, Multiplier, Leaderboard,
        Challenge, Mission, MissionStep, DepositBonus, Prize, Item, Pool, Stage, Teams, Recurrence,
    )  # fmt: skip
    fields = {field.alias or name for part in parts for name, field in part.model_fields.items()}
    for name in {*fields, *MEASURES} - {"name", "title", "tenant", "kind"}:
        assert f"`{name}`" in text, f"{name} is not in docs/campaigns.md"


def test_every_test_that_a_guarantee_names_exists() -> None:
    named = re.findall(r"`(test_\w+)…?`", doc("guarantees"))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 15
    for name in named:
        assert f"def {name}" in sources, f"docs/guarantees.md names {name}, which is no test"


def test_every_link_in_the_docs_leads_somewhere() -> None:
    for path in [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_every_file_that_the_design_and_the_how_tos_name_exists() -> None:
    for path in [ROOT / "docs" / "design.md", ROOT / "CONTRIBUTING.md"]:
        named = re.findall(r"`((?:avro|streams|connectors|tests|docs)/[\w./-]*)`", path.read_text())
        assert len(named) > 15
        for name in named:
            assert (ROOT / name).exists(), f"{path.name} names {name}"
