"""What is published of the keys: the reference page, the JSON Schema, the settings of one task."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from jobrunner.config.compile import compile_file
from jobrunner.config.effective import effective
from jobrunner.config.file_models import FileModel
from jobrunner.config.json_schema import json_schema, schema_text
from jobrunner.config.reference import reference
from jobrunner.config.schema import PoolModel, TaskModel, UniqueModel
from jobrunner.config.step_models import PipelineModel, StepModel
from jobrunner.errors import ConfigError, NotFound
from tests.config.mistakes import MISTAKES

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/jobs.yaml"


# ---- the page --------------------------------------------------------------------------------------------


def test_the_page_is_what_the_models_say() -> None:
    command = "python -m jobrunner.config.reference > docs/jobs-yaml.md"
    assert (ROOT / "docs/jobs-yaml.md").read_text() == reference(), f"write it anew: {command}"


def test_the_schema_is_what_the_models_say() -> None:
    command = "python -m jobrunner.config.json_schema > docs/jobs.schema.json"
    assert (ROOT / "docs/jobs.schema.json").read_text() == schema_text(), f"write it anew: {command}"


def test_the_page_names_every_key() -> None:
    page = reference()
    for model in (FileModel, TaskModel, PoolModel, PipelineModel, StepModel, UniqueModel):
        keys = model.model_fields.keys() - {"sequence"}  # how a list of steps is read
        assert [key for key in keys if f"\n| `{key}` | " not in page] == []


def test_every_example_of_a_key_is_accepted(tmp_path: Path) -> None:
    """Each example stands in a task of its own, so that none hides another."""
    tasks: dict[str, Any] = {name: {"command": "date"} for name in ("report", "page-ops", "other")}
    # Users and groups are this machine's, and another one needs root.
    keys = {key: info for key, info in TaskModel.model_fields.items() if key not in ("user", "group")}
    for key, info in keys.items():
        for number, example in enumerate(info.examples or ()):
            base = {} if key in ("command", "call") else {"command": "date"}
            tasks[f"{key}-{number}"] = {**base, key: example}
    tasks["pool-0"] |= {"command": None, "call": "x:y"}
    (tmp_path / ".env").touch()
    text = yaml.safe_dump({"pools": {"io": {"kind": "process"}}, "tasks": tasks})
    (tmp_path / "jobs.yaml").write_text(text)
    found = compile_file(str(tmp_path / "jobs.yaml"), environ={"HOME": "/home/ana"})
    assert found.plan is not None, found.rendered


# ---- the schema ------------------------------------------------------------------------------------------


def parts(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping of a schema with its path."""
    if isinstance(schema, dict):
        yield path, schema
        for key, value in schema.items():
            yield from parts(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from parts(value, f"{path}/{index}")


def test_every_key_of_the_schema_has_a_description_and_an_example() -> None:
    schema = json_schema()
    for name in ("task", "pool", "retries", "lock", "output", "limits", "retention", "lock_slots"):
        for key, value in schema["$defs"][name]["properties"].items():
            assert value.get("description"), (name, key)
            assert value.get("examples"), (name, key)


def test_the_schema_is_free_of_titles_and_nulls() -> None:
    for path, part in parts(json_schema()):
        assert path == "" or not isinstance(part.get("title"), str), path
        assert part.get("type") != "null", path
        assert "default" not in part, path


def test_every_reference_of_the_schema_leads_somewhere() -> None:
    schema = json_schema()
    references = [part["$ref"] for _, part in parts(schema) if isinstance(part.get("$ref"), str)]
    assert {each.removeprefix("#/$defs/") for each in references} == set(schema["$defs"])


def test_the_schema_knows_the_keys_and_no_others() -> None:
    schema = json_schema()
    models: dict[str, type[BaseModel]] = {"task": TaskModel, "pool": PoolModel}
    for name, model in models.items():
        assert set(schema["$defs"][name]["properties"]) == set(model.model_fields)
        assert schema["$defs"][name]["additionalProperties"] is False
    assert set(schema["properties"]) == set(FileModel.model_fields)
    assert set(schema["patternProperties"]) == {"^x-"}


def fits(value: Any, schema: dict[str, Any], top: dict[str, Any]) -> bool:
    """As much of JSON Schema as the schema uses; enough to tell a good file from a bad one."""
    if "$ref" in schema:
        return fits(value, top["$defs"][schema["$ref"].rpartition("/")[2]], top)
    if "anyOf" in schema:
        return any(fits(value, each, top) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds = schema.get("type", [])
    if kinds and not any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    return _text_fits(value, schema) and _number_fits(value, schema) and _parts_fit(value, schema, top)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    types: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "array": list,
        "object": dict,
    }
    return kind in types and isinstance(value, types[kind])


def _text_fits(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, str):
        return True
    return len(value) >= schema.get("minLength", 0) and bool(re.search(schema.get("pattern", ""), value))


def _number_fits(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, int | float):
        return True
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def _parts_fit(value: Any, schema: dict[str, Any], top: dict[str, Any]) -> bool:
    if isinstance(value, list):
        return all(fits(each, schema.get("items", {}), top) for each in value)
    if not isinstance(value, dict):
        return True
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
    for key, each in value.items():
        part = known.get(key) or (schema.get("patternProperties", {}).get("^x-") if key[:2] == "x-" else rest)
        if part is False or not fits(each, part, top):
            return False
    return True


def test_the_schema_accepts_the_example() -> None:
    assert fits(yaml.safe_load(EXAMPLE.read_text()), json_schema(), json_schema())


def test_the_schema_accepts_its_own_examples() -> None:
    top = json_schema()
    for path, part in parts(top):
        for example in part.get("examples", []) if isinstance(part.get("examples"), list) else []:
            assert fits(example, part, top), (path, example)


SEEN_BY_AN_EDITOR = [
    "unknown-key",
    "unknown-key-at-the-top",
    "unknown-unit",
    "bad-percentage",
    "negative",
    "wrong-choice",
    "dotted-call",
    "list-of-tasks",
    "task-of-text",
]


@pytest.mark.parametrize("name", SEEN_BY_AN_EDITOR)
def test_the_schema_refuses_what_an_editor_can_see(name: str) -> None:
    assert not fits(yaml.safe_load(MISTAKES[name]), json_schema(), json_schema())


def test_the_schema_is_json() -> None:
    assert json.loads(schema_text()) == json_schema()


# ---- the settings of one task ----------------------------------------------------------------------------


def test_each_setting_says_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(
        "timezone: Europe/Paris\n"
        "env: {A: 1}\n"
        "defaults:\n"
        "  timeout: 1h\n"
        "tasks:\n"
        "  a:\n"
        "    command: date\n"
        "    retries: 2\n"
        "    schedule: daily\n"
    )
    found = {each.key: (each.value, each.origin) for each in effective(str(file), "a", environ={})}
    assert found["command"] == ("date", f"{file}:7")
    assert found["timeout"] == (3_600_000_000, f"{file}:4 (defaults)")
    assert found["retries"][1] == f"{file}:8"
    assert found["schedule"] == (["daily"], f"{file}:9")
    assert found["timezone"] == ("Europe/Paris", f"{file}:1")
    assert found["env"] == ({"A": "1"}, f"{file}:2")
    assert found["priority"] == (0, "default")
    assert "call" not in found


def test_settings_of_a_task_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("tasks: {backup: {command: date}}")
    with pytest.raises(NotFound) as caught:
        effective(str(file), "bakup", environ={})
    assert caught.value.help == "did you mean 'backup'?"
    file.write_text("tasks: {")
    with pytest.raises(ConfigError):
        effective(str(file), "backup", environ={})
