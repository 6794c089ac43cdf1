"""The keys at the top of a jobs.yaml and of the files that it includes, as pydantic models."""

from __future__ import annotations

from pydantic import BaseModel

from .kinds import Duration, Environment, FilePaths, Filled, Modules, Variables
from .schema import (
    STRICT,
    DefaultsModel,
    LockSlotsModel,
    MailModel,
    PoolModel,
    RetentionModel,
    TaskModel,
    option,
)
from .step_models import PipelineModel


class IncludedModel(BaseModel):
    """What a file named under `include` may hold."""

    model_config = STRICT

    tasks: dict[str, TaskModel] | None = option("The tasks by name", {"backup": {"command": "backup.sh"}})
    pools: dict[str, PoolModel] | None = option("Pools by name", {"reports": {"kind": "process", "slots": 2}})
    locks: dict[str, LockSlotsModel] | None = option("Locks by name", {"database": {"slots": 1}})
    pipelines: dict[str, PipelineModel] | None = option(
        "Compositions of tasks by name", {"report": {"steps": ["extract", "mail"]}}
    )
    include: FilePaths | None = option("More files with tasks; patterns are sorted", ["jobs.d/*.yaml"])


class FileModel(IncludedModel):
    """A jobs.yaml."""

    backend: Filled | None = option(
        "Where runs are kept; a relative path counts from the folder of this file",
        "sqlite:///.jobrunner/jobs.db",
        "redis://queue.example/0?namespace=shop",
        "postgresql://jobs@db.example/jobs",
        "memory://",
        default="sqlite:///.jobrunner/NAME.db, NAME being this file's",
    )
    timezone: Filled | None = option("Zone of all schedules", "Europe/Paris", default="the machine's")
    modules: Modules | None = option(
        "Modules whose decorated tasks join the tasks of this file", ["shop.jobs"]
    )
    pythonpath: FilePaths | None = option(
        "Folders to import callables from", ["."], default="the folder of this file"
    )
    env: Environment | None = option("Environment variables of every task", {"LANG": "C.UTF-8"})
    env_file: FilePaths | None = option(
        "Files of KEY=VALUE lines; a leading - lets one be missing", [".env", "-local.env"]
    )
    secrets: Variables | None = option(
        "Variables whose values are redacted in what is kept and shown", ["DB_PASSWORD"]
    )
    defaults: DefaultsModel | None = option("Keys that hold for every task", {"timeout": "1h", "retries": 2})
    retention: RetentionModel | None = option("How long things are kept", {"history": "30d"})
    mail: MailModel | None = option("How mail leaves this machine", {"smtp": "mail.example.com:587"})
    shutdown_timeout: Duration | None = option("How long a stop waits for running runs", "30s", default="30s")
