"""The reference of jobs.yaml as a page, made from the models: `python -m jobrunner.config.reference`."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Final

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .file_models import FileModel
from .json_schema import json_schema
from .kinds import Kind
from .schema import (
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

__all__ = ["json_schema", "ordered_keys", "reference"]

_FIRST: Final = ("description", "command", "shell", "call", "args", "kwargs", "schedule", "timezone")

_HEAD: Final = """\
# jobs.yaml

Every key, what it takes, and what holds without it. This page is generated from the models that check
the file; so is [jobs.schema.json](jobs.schema.json), which editors use for completion:

```yaml
# yaml-language-server: $schema=./jobs.schema.json
timezone: Europe/Paris
defaults: {timeout: 1h, retries: 2}      # for every task; a task's own key replaces it
locks:
  database: {slots: 1}

tasks:
  backup:
    description: Nightly dump of the shop database
    shell: bash -o pipefail              # or a failing pg_dump would count as success
    command: pg_dump shop | zstd > /backup/shop.zst
    schedule: "30 2 * * *"
    timeout: 2h
    lock: database
    on_failure: [page-ops]

  page-ops:
    command: '/usr/local/bin/page "$JOBRUNNER_FAILED_TASK failed: $JOBRUNNER_FAILED_REASON"'

  resize:
    call: shop.images:resize             # on demand: jobrunner enqueue resize --args '{"image": 42}'
    kwargs: {width: 800}
    retries: {max: 3, delay: 10s, backoff: 2, max_delay: 5m, jitter: 10%}
```
"""

_TASKS: Final = """\
## Tasks

Exactly one of `command` and `call` is given. `shell`, `stdin`, `success_codes`, `leftovers`, `result`,
`user`, `group`, `umask`, `nice` and `limits` are for commands. `description`, `command`, `call`, `args`,
`kwargs`, `schedule` and `stdin` cannot stand in `defaults`.
"""

_LOCK: Final = """\
### lock

A lock that is not declared at the top has one slot; where `locks` stands, it names them all.
"""

_LIMITS: Final = """\
### limits

Without root a limit can only be lowered; more than the hard limit of the process is an error.
"""

_NOTIFY: Final = """\
### notify

At least one of `mail`, `webhook` and `command` is given; a pipeline has the same keys. What each of the
occasions is, and what is told, says [notifications.md](notifications.md).
"""

_SCHEDULES: Final = """\
## Schedules

| form | meaning |
|---|---|
| `"*/5 * * * *"` | five cron fields; always in quotes |
| `hourly` `daily` `midnight` `weekly` `monthly` `yearly` | as in cron; `"@daily"` needs quotes |
| `every 90s`, `{every: 90s, offset: 10s}` | elapsed time, counted from the Unix epoch |
| `{at: 2026-12-24T18:00}` | once; without an offset in the zone of the task |
| `reboot` | once per boot of the machine |
| `{cron: "30 2 * * *", timezone: ..., args: ..., kwargs: ...}` | a mapping may replace these for its runs |
"""

_PIPELINES: Final = """\
## Pipelines

A pipeline is started as one thing, by its schedule or by `jobrunner enqueue`, and is paused, cancelled and
shown as one thing; its name is one of the tasks' names. `steps` is a list; each step is the name of a task or
of another pipeline, or a mapping with one of `task`, `parallel` and `map`.

```yaml
pipelines:
  nightly-report:
    schedule: "0 4 * * 1-5"
    timeout: 2h
    steps:
      - extract
      - parallel: [load-eu, [load-us, check-us]]     # a list inside is a sequence
      - {task: render, kwargs: {format: pdf}, retries: 2}
      - map: {task: mail, over: [ann@example.com, bob@example.com]}
    on_failure: [page-ops]
tasks:
  extract: {command: extract.sh}
  load-eu: {command: load.sh eu}
  load-us: {command: load.sh us}
  check-us: {command: check.sh us}
  render: {command: 'render.sh "$JOBRUNNER_ARG_FORMAT"'}
  mail: {command: 'mail.sh "$1"'}
  page-ops: {command: 'page.sh "$JOBRUNNER_FAILED_TASK failed: $JOBRUNNER_FAILED_REASON"'}
```
"""

_INPUT: Final = """\
- A step gets the result of the step before it: a tuple extends its `args`, a mapping its `kwargs` (never over
  those that the step itself gives), any other value but None is appended to its `args`. After `parallel` and
  `map` it is the list of the members' results, in their order.
- A command gets it as JSON on its standard input and, up to 32 KiB, as `JOBRUNNER_INPUT`. The result of a
  command is what it wrote to stdout, stripped; parsed when its task says `result: json`.
- When a step does not succeed, the steps after it are skipped (`upstream failed`), and the pipeline has
  failed. Members of a `parallel` that are under way go on. `on_failure` of a step or of the pipeline is told
  what failed, like a task's own. `jobrunner retry` does again what failed, and keeps what had succeeded.
"""

_VALUES: Final = """\
## Values

- A duration is `500ms`, `90s`, `15m`, `1h30m`, `2d` or `1w`; a bare number is seconds. A size is `10MiB`,
  `10MB`, or a bare number of bytes.
- YAML is read by the rules of version 1.2: `no`, `on`, `010` and `12:30` are text. In `env`, in commands
  and in other texts a number is what is written: `VERSION: 3.10` stays `3.10`.
- `null` in a task unsets what `defaults` say.
- `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `${VAR:+other}` are replaced in values, not inside
  `command`, where the shell does that. `$$` is one `$`. A variable that is not set, and has no default, is
  an error. Variables come from the environment, then from the file's own `env_file`.
- Keys that begin with `x-` at the top of a file are a shelf for anchors; they are not read.
- Relative paths count from the folder of the file they are written in. A task's working folder is, if it
  says nothing, the folder of the file that was given to jobrunner.
- Names are up to 100 letters, digits, `_`, `.` and `-`, and begin with a letter or a digit.
- Variables of a task, later ones win: the file's `env_file`, the file's `env`, the task's `env_file`, the
  task's `env`. A line of an env file is `KEY=VALUE`, with quotes, `#` comments and an `export` in front
  if need be; nothing in it is expanded.
- An included file holds `tasks`, `pools`, `locks` and further `include`; everything else is said once, in
  the file that includes it, and holds for all tasks.
- A file, or a folder above it, that other users can write is refused when root reads it; for others it is
  a warning.
"""


def reference() -> str:
    """The whole page."""
    parts = [
        _HEAD,
        "## The file\n",
        _table(FileModel, ["tasks", "defaults", *FileModel.model_fields]),
        _TASKS,
        _table(TaskModel, ordered_keys()),
        "### retries\n",
        _table(RetriesModel),
        _LOCK,
        _table(LockModel),
        "### output\n",
        _table(OutputModel),
        _LIMITS,
        _table(LimitsModel),
        _NOTIFY,
        _table(NotifyModel),
        _SCHEDULES,
        _PIPELINES,
        _table(PipelineModel),
        "### Steps\n",
        _table(StepModel, [key for key in StepModel.model_fields if key != "sequence"]),
        _INPUT,
        "### unique\n",
        _table(UniqueModel),
        "## Pools\n\nThere are two without a word: `default` for calls, `commands` for commands.\n",
        _table(PoolModel),
        "## Locks\n",
        _table(LockSlotsModel),
        "## Retention\n",
        _table(RetentionModel),
        "## Mail\n",
        _table(MailModel),
        _VALUES,
    ]
    return "\n".join(parts) + "\n"


def ordered_keys() -> list[str]:
    """The keys of a task: what it does first, then how."""
    own = [*_FIRST, "stdin"]
    return [*own, *(key for key in TaskModel.model_fields if key not in own)]


def _table(model: type[BaseModel], keys: Iterable[str] | None = None) -> str:
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    rows.extend(_row(key, model.model_fields[key]) for key in dict.fromkeys(keys or model.model_fields))
    return "\n".join(rows) + "\n"


def _row(key: str, info: FieldInfo) -> str:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    default = str(extra.get("default", "required" if info.is_required() else ""))
    examples = "; ".join(f"`{_written(each)}`" for each in (info.examples or ())[:1])
    meaning = f"{info.description}. Such as {examples}" if examples else f"{info.description}."
    return f"| `{key}` | {says(info)} | {_quoted(default)} | {meaning} |".replace("|  |", "| |")


def _quoted(default: str) -> str:
    plain = default in ("", "none", "required") or " " in default or "`" in default
    return default if plain else f"`{default}`"


def says(info: FieldInfo) -> str:
    """What a key takes, in words."""
    kind = next((each for each in _inside(info.annotation, info.metadata) if isinstance(each, Kind)), None)
    if kind is not None:
        return kind.says
    mapping = typing.get_origin(_not_none(info.annotation)) is dict
    return "mapping by name" if mapping else "mapping"


def _inside(annotation: Any, metadata: list[Any]) -> Iterator[object]:
    yield from metadata
    yield from getattr(_not_none(annotation), "__metadata__", ())


def _not_none(annotation: Any) -> Any:
    return (
        next((each for each in typing.get_args(annotation) if each is not type(None)), annotation)
        if (type(None) in typing.get_args(annotation))
        else annotation
    )


def _written(example: Any) -> str:
    """An example as one line of YAML."""
    if isinstance(example, str):
        text = yaml.safe_dump(example, default_style='"' if _needs_quotes(example) else None, width=10_000)
        return text.removesuffix("\n").removesuffix("\n...")
    if isinstance(example, bool | int):
        return json.dumps(example)
    return yaml.safe_dump(example, default_flow_style=True, width=10_000, sort_keys=False).strip()


def _needs_quotes(text: str) -> bool:
    return text[:1] in "*@%`" or " * " in text or "\n" in text


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201
