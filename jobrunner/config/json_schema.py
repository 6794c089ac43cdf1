"""The JSON Schema of jobs.yaml, made from the models, for editors."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from .file_models import FileModel
from .schema import LockModel, RetriesModel, UniqueModel
from .step_models import StepModel

DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_SECTIONS: Final = ("tasks", "pools", "locks")


class _Plain(GenerateJsonSchema):
    """Without what only distracts in an editor: titles, and the null of keys that may be left out."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def json_schema() -> dict[str, Any]:
    """The schema as a document; a YAML language server takes it as it is."""
    made = FileModel.model_json_schema(schema_generator=_Plain)
    definitions = made.pop("$defs")
    definitions["RetriesModel"] = _definition(RetriesModel)
    definitions["LockModel"] = _definition(LockModel)
    definitions["UniqueModel"] = _definition(UniqueModel)
    definitions["StepModel"] = _definition(StepModel)
    document = {"$schema": DIALECT, **made, "$defs": definitions}
    tidy: dict[str, Any] = _tidy(document, top=True)
    return _renamed(tidy)


def _definition(model: Any) -> dict[str, Any]:
    schema: dict[str, Any] = model.model_json_schema(schema_generator=_Plain)
    inner = schema.pop("$defs", {})
    return inner.get(model.__name__, schema) if "$ref" in schema else schema


def _tidy(schema: Any, *, top: bool = False) -> Any:
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.keys() == {"definition"}:  # pydantic counts references itself and would not know this one
        return {"$ref": f"#/$defs/{schema['definition']}"}
    tidy = {key: _tidy(value) for key, value in schema.items() if not _is_noise(key, value)}
    if isinstance(tidy.get("default"), str) and "description" in tidy:
        tidy["description"] += f" (default: {tidy.pop('default')})"  # words: nothing for an editor to insert
    if top:
        tidy["title"] = "jobs.yaml"
        tidy["patternProperties"] = {"^x-": {"description": "A shelf for anchors; not read"}}
    return tidy


def _is_noise(key: str, value: Any) -> bool:
    return (key == "title" and isinstance(value, str)) or (key == "default" and value is None)


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    """Definitions under plain names: `task`, `pool`, `defaults`."""
    text = json.dumps(document)
    for name in document["$defs"]:
        text = text.replace(f'"#/$defs/{name}"', f'"#/$defs/{_plain(name)}"')
    renamed: dict[str, Any] = json.loads(text)
    renamed["$defs"] = {_plain(name): schema for name, schema in renamed["$defs"].items()}
    return renamed


def _plain(name: str) -> str:
    return {"LockSlotsModel": "lock_slots"}.get(name, name.removesuffix("Model").lower())


def schema_text() -> str:
    """The document as it is printed and kept in docs/."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")  # noqa: T201
