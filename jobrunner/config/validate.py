"""A document against its model: every error at its place, and the rest of the document as a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .faults import quote
from .file_models import FileModel, IncludedModel
from .kinds import NAME, bad_name, spell, suggestion
from .problems import Findings
from .schema import (
    DefaultsModel,
    LimitsModel,
    LockModel,
    LockSlotsModel,
    MailModel,
    NotifyModel,
    OutputModel,
    PoolModel,
    RetentionModel,
    RetriesModel,
    TaskModel,
    UniqueModel,
)
from .step_models import PipelineModel, StepModel
from .values import Document

Model = TypeVar("Model", bound=BaseModel)
Loc = tuple[str | int, ...]

_SECTIONS: Final[Mapping[str, tuple[str, type[BaseModel]]]] = {
    "tasks": ("task", TaskModel),
    "pipelines": ("pipeline", PipelineModel),
    "pools": ("pool", PoolModel),
    "locks": ("lock", LockSlotsModel),
}
_PARTS: Final[Mapping[str, type[BaseModel]]] = {
    "retries": RetriesModel,
    "lock": LockModel,
    "output": OutputModel,
    "limits": LimitsModel,
    "notify": NotifyModel,
    "unique": UniqueModel,
}
_TOP: Final[Mapping[str, type[BaseModel]]] = {"retention": RetentionModel, "mail": MailModel}
_TASK_ONLY: Final = TaskModel.model_fields.keys() - DefaultsModel.model_fields.keys()
_FILE_ONLY: Final = FileModel.model_fields.keys() - IncludedModel.model_fields.keys()


def validate(document: Document, raw: dict[str, Any], kind: type[Model], findings: Findings) -> Model:
    """The document as a model, without the parts that are wrong, which are then among the findings."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=True)
    for problem in problems:
        _report(document, problem, kind, findings)
    for problem in problems:
        _prune(raw, problem["loc"])
    return validate(document, raw, kind, findings)


def _prune(raw: dict[str, Any], loc: Loc) -> None:
    """Drops the key that an error belongs to: a task's whole key, however deep inside it the error is.

    Something is dropped every time, so that validation comes to an end.
    """
    *outer, last = loc[: 3 if loc[0] in _SECTIONS else 2]
    for step in outer:
        inner = raw.get(str(step))
        if not isinstance(inner, dict):
            raw.pop(str(step), None)
            return
        raw = inner
    raw.pop(str(last), None)


# ---- from pydantic's words to ours -----------------------------------------------------------------------


def _report(document: Document, problem: ErrorDetails, kind: type[BaseModel], findings: Findings) -> None:
    loc, context = problem["loc"], problem.get("ctx", {})
    if problem["type"] == "extra_forbidden":
        _unknown_key(document, loc, kind, findings)
    elif problem["type"] == "missing":
        message = f"{_owner(loc[:-1])} has no key {loc[-1]!r}, expected one"
        findings.consequence(document.place(loc[:-1], key=True), "missing-key", message)
    elif "message" in context:
        _wrong_value(document, loc, problem["type"], context, findings)
    else:
        wanted = "a mapping" if "dict" in problem["type"] or "model" in problem["type"] else "a list"
        message = f"{_label(document, loc)}got {spell(problem['input'])}, expected {wanted}"
        hint = _shape_hint(loc, problem["input"])
        findings.consequence(document.place(loc), "wrong-type", message, hint=hint)


def _wrong_value(
    document: Document, loc: Loc, code: str, context: Mapping[str, Any], findings: Findings
) -> None:
    is_key = loc[-1] == "[key]"
    path = (*(loc[:-1] if is_key else loc), *context.get("at", ()))
    message = f"{_label(document, path)}{context['message']}"
    findings.consequence(document.place(path, key=is_key), code, message, hint=context["help"])


def _shape_hint(loc: Loc, value: Any) -> str:
    """How a list of tasks, or a task that is only its command, would be written."""
    if loc == ("tasks",) and isinstance(value, list):
        return "tasks go by their names: write NAME: {command: ...} instead of - name: NAME"
    if loc[0] == "tasks" and len(loc) == 2 and isinstance(value, str):
        return f"write {loc[1]}: {{command: {quote(value)}}}"
    return ""


def _label(document: Document, loc: Loc) -> str:
    """The key that a message begins with, `retries.max: `."""
    words = document.written(loc)[2 if loc[0] in _SECTIONS else 0 :]
    return ".".join(words) + ": " if words else f"{_owner(loc)}: "


def _owner(loc: Loc) -> str:
    """The mapping that a place lies in, as a message names it."""
    if not loc:
        return "the file"
    if loc[0] not in _SECTIONS:
        return str(loc[0])
    if len(loc) == 1:
        return str(loc[0])
    owner = f"{_SECTIONS[str(loc[0])][0]} {str(loc[1])!r}"
    return f"{loc[2]} of {owner}" if len(loc) > 2 else owner


def _unknown_key(document: Document, loc: Loc, kind: type[BaseModel], findings: Findings) -> None:
    key, owner = str(loc[-1]), loc[:-1]
    place = document.place(loc, key=True)
    name, model = _model_of(owner, kind)
    if name == "defaults" and key in _TASK_ONLY:
        message = f"{key!r} cannot stand in defaults, expected it in a task"
        findings.consequence(place, "unknown-key", message, hint="it is each task's own")
        return
    if name == "included" and key in _FILE_ONLY:
        message = f"{key!r} cannot stand in an included file, expected it in the file that includes it"
        findings.consequence(place, "unknown-key", message)
        return
    where = f" in {_owner(owner)}" if owner else ""
    hint = suggestion(key, model.model_fields, what="known keys")
    findings.consequence(place, "unknown-key", f"unknown key {key!r}{where}", hint=hint)


def _model_of(owner: Loc, kind: type[BaseModel]) -> tuple[str, type[BaseModel]]:
    """The model of the mapping at a place, and what that mapping is."""
    if not owner:
        return ("file" if kind is FileModel else "included"), kind
    last = str(owner[-1])
    if owner[0] == "pipelines" and len(owner) > 2 and owner[2] == "steps":
        return "step", StepModel
    if owner[0] in _TOP:
        return str(owner[0]), _TOP[str(owner[0])]
    if len(owner) > 1 and last in _PARTS and (owner[0] == "defaults" or len(owner) > 2):
        return last, _PARTS[last]
    if owner[0] == "defaults":
        return ("defaults", DefaultsModel)
    return _SECTIONS[str(owner[0])]


def check_names(document: Document, raw: Mapping[str, Any], findings: Findings) -> None:
    """The names of tasks, pools and locks."""
    for section in _SECTIONS:
        named = raw.get(section)
        for name in named if isinstance(named, dict) else ():
            if not NAME.fullmatch(name):
                code, message, hint = bad_name(name)
                findings.consequence(document.place([section, name], key=True), code, message, hint=hint)
