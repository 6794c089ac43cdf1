"""Which values are secret: those of the variables under `secrets`, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ..plan import Pipeline, Plan
from ..redact import SHORTEST, Redactor
from .draft import Draft
from .problems import Findings, Place, Problem
from .sources import Part

_STORED: Final = ("args", "kwargs", "schedule", "description")  # what a client can read in the storage


def secret_values(names: Iterable[str], *sources: Mapping[str, str]) -> tuple[str, ...]:
    """The values that these variables have in the sources, each once; what is too short is left out."""
    found = (source[name] for name in names for source in sources if name in source)
    return tuple(dict.fromkeys(value for value in found if len(value.strip()) >= SHORTEST))


def check_stored(draft: Draft, secrets: tuple[str, ...], findings: Findings) -> None:
    """A secret among what is published or enqueued would lie in the storage for every client to read."""
    redactor = Redactor(secrets)
    for key in _STORED if secrets else ():
        value = getattr(draft.own, key, None)
        if value is not None and redactor.value(value) != value:
            message = f"{key}: a secret would lie in the storage, where every client can read it"
            hint = "give it to the task by env or env_file"
            findings.error(draft.place(key), "secret-stored", message, hint=hint)


def check_composed(
    pipeline: Pipeline | None, place: Place, secrets: tuple[str, ...], findings: Findings
) -> None:
    """The steps of a pipeline lie in the storage, with the arguments that they are given."""
    if pipeline is None or Redactor(secrets).text(pipeline.composition) == pipeline.composition:
        return
    message = f"pipeline {pipeline.name!r}: a secret would lie in the storage, where every client can read it"
    findings.error(place, "secret-stored", message, hint="give it to the tasks by env or env_file")


def check_secrets(
    part: Part, names: Iterable[str], sources: Iterable[Mapping[str, str]], findings: Findings
) -> None:
    """A name without a value is probably misspelt; a short value cannot be told from other text."""
    known = list(sources)
    for index, name in enumerate(names):
        values = [source[name] for source in known if name in source]
        place = part.document.place(["secrets", index])
        if not values:
            message = f"secrets: {name} has no value, neither in the environment nor in env or env_file"
            findings.warning(place, "secret-unset", message)
        elif any(0 < len(value.strip()) < SHORTEST for value in values):
            message = (
                f"secrets: the value of {name} is too short to be redacted, expected {SHORTEST} characters"
            )
            findings.warning(place, "secret-too-short", message, hint="it would be found in any text")


def without_secrets(problems: Iterable[Problem], secrets: tuple[str, ...]) -> tuple[Problem, ...]:
    """The problems of a file, as they may be shown."""
    redactor = Redactor(secrets)
    return tuple(
        each._replace(message=redactor.text(each.message), help=redactor.text(each.help)) for each in problems
    )


def shown(plan: Plan, value: object) -> object:
    """A setting of a task, as it may be shown."""
    return Redactor(plan.secrets).value(value)
