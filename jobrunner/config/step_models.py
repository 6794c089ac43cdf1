"""The keys of pipelines and of their steps as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field

from .kinds import (
    Arguments,
    Duration,
    Environment,
    Filled,
    Flag,
    Keywords,
    Kind,
    Name,
    Names,
    Period,
    Text,
    choice,
    refuse,
    spell,
)
from .schema import (
    STRICT,
    CatchUp,
    Count,
    NotifyModel,
    Overlap,
    Priority,
    Schedules,
    Slots,
    Unique,
    option,
)

_STEP_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "string"}, {"definition": "StepModel"}]}
_MEMBER_SCHEMA: dict[str, Any] = {
    "anyOf": [*_STEP_SCHEMA["anyOf"], {"type": "array", "items": _STEP_SCHEMA, "minItems": 1}]
}


def _step(value: object) -> object:
    return {"task": value} if isinstance(value, str) else value


def _member(value: object) -> object:
    return {"sequence": value} if isinstance(value, list) else _step(value)


def _over(value: object) -> object:
    if value == "input":
        return None
    if not isinstance(value, list):
        raise refuse(
            "bad-value", f"got {spell(value)}, expected a list, or input", "over: input takes the result"
        )
    return value


def _list(value: object) -> object:
    if not isinstance(value, list):
        raise refuse(
            "wrong-type", f"got {spell(value)}, expected a list of steps", "write - before each step"
        )
    if not value:
        raise refuse("bad-value", "got an empty list, expected at least one step")
    return value


OneStep: TypeAlias = Annotated["StepModel", Kind(_step, "step", _STEP_SCHEMA)]
OneMember: TypeAlias = Annotated["StepModel", Kind(_member, "step, or list of steps", _MEMBER_SCHEMA)]
ManySteps: TypeAlias = Annotated[
    list[OneStep], Kind(_list, "list of steps", {"type": "array", "items": _STEP_SCHEMA, "minItems": 1})
]
Members: TypeAlias = Annotated[
    list[OneMember],
    Kind(_list, "list of steps", {"type": "array", "items": _MEMBER_SCHEMA, "minItems": 1}),
]
Items: TypeAlias = Annotated[
    list[Any] | None, Kind(_over, "list, or `input`", {"anyOf": [{"type": "array"}, {"const": "input"}]})
]
NoInput: TypeAlias = Annotated[str, choice("none")]
OnMemberFailure: TypeAlias = Annotated[str, choice("fail", "continue")]


class StepModel(BaseModel):
    """A step: exactly one of `task`, `parallel` and `map`."""

    model_config = STRICT

    task: Name | None = option("A task, or another pipeline", "extract")
    parallel: Members | None = option(
        "Steps, or lists of steps, that run at once; the next step gets the list of their results",
        ["load-eu", "load-us"],
    )
    map: Annotated[StepModel, Kind(_step, "`{task, over}`", {"definition": "StepModel"})] | None = option(
        "One run of a task for each item of a list", {"task": "resize", "over": [1, 2, 3]}
    )
    over: Items = option("In `map`: the list, or `input`, the result of the step before", "input")
    input: NoInput | None = option(
        "`none`: the step does not get the result of the one before it", "none", default="the result"
    )
    args: Arguments | None = option("Arguments, instead of the task's own", [1, 2])
    kwargs: Keywords | None = option("Keyword arguments, over the task's own", {"format": "pdf"})
    retries: Count | None = option("How often to try again", 3, default="the task's own")
    retry_delay: Duration | None = option("Delay before the first retry", "10s", default="the task's own")
    timeout: Period | None = option("Longest time of one attempt", "1h", default="the task's own")
    expires: Period | None = option("Not started within this: expired", "10m", default="the task's own")
    priority: Priority | None = option("Higher goes first", 10, default="the pipeline's, then the task's own")
    delay: Duration | None = option("Wait so long before the step", "5m", default="0")
    env: Environment | None = option("Environment variables, over the task's own", {"LANG": "C.UTF-8"})
    on_member_failure: OnMemberFailure | None = option(
        "At `parallel` and `map`: whether the next step runs, with an error value in that place",
        "continue",
        default="fail",
    )
    on_failure: Names | None = option("Tasks to enqueue when this step has failed", ["page-ops"])
    sequence: ManySteps | None = Field(default=None, exclude=True)  # how a list in `parallel` is read


class PipelineModel(BaseModel):
    """Tasks as steps, started as one thing and shown as one thing."""

    model_config = STRICT

    steps: ManySteps | None = option(
        "Steps, one after the other; each gets the result of the one before it",
        ["extract", {"parallel": ["load-eu", "load-us"]}, "mail"],
    )
    description: Text | None = option("What the pipeline is for", "Nightly report")
    schedule: Schedules | None = option("When to start it", "0 4 * * 1-5", default="none: on demand only")
    timezone: Filled | None = option("Zone of the schedule", "UTC", default="the file's, then the machine's")
    overlap: Overlap | None = option(
        "What a tick does while an earlier one is not over", "skip", default="skip"
    )
    catch_up: CatchUp | None = option("Which missed ticks are run", "one", default="one")
    catch_up_window: Duration | None = option("How old a missed tick may be", "1d", default="1d")
    catch_up_limit: Slots | None = option("How many missed ticks `all` runs: the latest", 20, default="100")
    jitter: Duration | None = option("A random delay per tick, up to this", "5m", default="0")
    priority: Priority | None = option("Of all its steps", 10, default="each task's own")
    unique: Unique | None = option(
        "While one with this key is not over, another enqueue is refused", "all", default="none"
    )
    timeout: Period | None = option(
        "Longest time of the whole, when it is no step itself", "2h", default="none"
    )
    on_success: Names | None = option("Tasks to enqueue when all of it has succeeded", ["celebrate"])
    on_failure: Names | None = option("Tasks to enqueue when it has failed", ["page-ops"])
    notify: NotifyModel | None = option(
        "Who is told when the whole of it fails, works again, succeeds, is missed or late",
        {"on": ["failure", "recovery"], "mail": "ops@example.com"},
        default="none",
    )
    enabled: Flag | None = option("Whether its schedule fires", False, default="true")


StepModel.model_rebuild()
PipelineModel.model_rebuild()
