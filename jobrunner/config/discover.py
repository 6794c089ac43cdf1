"""Finds the file, and the URL of its storage, without validating it: the short way of clients.

Nothing here imports pydantic or croniter; yaml only for a file that says where its storage lies in a way
that a look at the text does not settle.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import ConfigError
from .backend import BackendError, backend_url
from .problems import Findings, render_problems
from .reading import Source, folders_above, read_source

if TYPE_CHECKING:
    from .values import Document

NAME: Final = "jobs.yaml"
_TARGET: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_SIMPLE: Final = re.compile(r"^backend:[ \t]+([A-Za-z][\w+.-]*:[\w+./~-]*)[ \t]*(?:[ \t]#.*)?$", re.MULTILINE)
_QUOTED: Final = re.compile(r"^backend:[ \t]+(['\"])([\w+./:~-]+)\1[ \t]*(?:[ \t]#.*)?$", re.MULTILINE)


class Target(NamedTuple):
    """A JobRunner that is served without a file naming it: `module:attribute`, imported from a folder."""

    folder: str
    name: str

    @property
    def path(self) -> str:
        return os.path.join(self.folder, self.name)


def target_of(path: str) -> Target | None:
    """The JobRunner that a path means, None when it is a file's: `demo:jobs`, `/srv/app/shop.jobs:jobs`."""
    folder, name = os.path.split(os.path.abspath(path))
    if not _TARGET.fullmatch(name) or os.path.exists(path):
        return None
    return Target(folder, name)


def find_config(explicit: str | None, environ: Mapping[str, str], cwd: str | os.PathLike[str]) -> str | None:
    """The path of the file that is meant, None when there is none.

    The one that was named, JOBRUNNER_CONFIG, the nearest jobs.yaml upwards, that of the user, that of the
    machine. Raises ConfigError when a file that was named is not there.
    """
    named = explicit or environ.get("JOBRUNNER_CONFIG")
    if named:
        return _named(named, os.path.join(cwd, named), "" if explicit else ", named by JOBRUNNER_CONFIG")
    return next((path for path in _candidates(environ, os.path.abspath(cwd)) if os.path.exists(path)), None)


def _named(name: str, path: str, by: str) -> str:
    if target_of(path) is not None:
        return name if os.path.abspath(name) == os.path.abspath(path) else path
    module = path.removesuffix(".py")
    if os.path.isfile(f"{module}.py") and (path.endswith(".py") or not os.path.exists(path)):
        stem = os.path.basename(module)
        raise ConfigError(
            f"{name} is a Python module, not a file of tasks{by}",
            help=f"name the JobRunner in it: {stem}:jobs, if it is called jobs there",
        )
    if not os.path.exists(path):
        raise ConfigError(f"there is no file {name}{by}", help=f"looked for {os.path.abspath(path)}")
    return name if os.path.exists(name) else path


def _candidates(environ: Mapping[str, str], folder: str) -> list[str]:
    home = environ.get("HOME") or os.path.expanduser("~")
    settings = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return [
        *(os.path.join(each, NAME) for each in folders_above(os.path.join(folder, NAME))),
        os.path.join(settings, "jobrunner", NAME),
        os.path.join("/etc/jobrunner", NAME),
    ]


def backend_of(path: str, environ: Mapping[str, str]) -> str:
    """The URL of the storage that a file means, whatever else is wrong with it.

    Raises ConfigError when the file cannot be read, or what it says of its storage.
    """
    if target_of(path) is not None:
        return _backend_of_target(path, environ)
    findings = Findings()
    source = read_source(path, path, findings)
    if source is None or findings.failed:
        problems = [problem for problem in findings.sorted() if problem.is_error]
        raise ConfigError(render_problems(problems, {}).rpartition("\n")[0])
    try:
        return backend_url(_given(source, environ), source.path)
    except BackendError as error:
        raise ConfigError(f"{path}: backend: {error.message}", help=error.help) from None


def _backend_of_target(path: str, environ: Mapping[str, str]) -> str:
    """What the JobRunner says, asked in a child process: this one imports no code of a user."""
    from .child import compile_in_child

    compiled = compile_in_child(path, environ=environ)
    if compiled.plan is None:
        raise ConfigError(compiled.rendered)
    return compiled.plan.backend


def _given(source: Source, environ: Mapping[str, str]) -> str | None:
    """What the file says under `backend`."""
    text = source.text
    if "backend" not in text and "<<" not in text and "\\" not in text:
        return None
    simple = _SIMPLE.search(text) or _QUOTED.search(text)
    if simple is not None:
        return simple[simple.lastindex or 1]
    if not _may_hold_backend(text):
        return None
    return _read(source, environ)


def _may_hold_backend(text: str) -> bool:
    """Whether the key may stand at the top: at the beginning of a line, or the file is one flow mapping."""
    return bool(re.search(r"^(['\"]?backend|['\"\\?{]|<<|---|!|&)", text, re.MULTILINE))


def _read(source: Source, environ: Mapping[str, str]) -> str | None:
    """The same by way of the nodes, for quotes, anchors and variables."""
    from .interpolate import InterpolationError, interpolate
    from .load import load_nodes
    from .values import Document

    findings = Findings()
    root = load_nodes(source.text, source.name, findings)
    if root is None:
        raise ConfigError(render_problems(findings.sorted(), {source.name: source.text}))
    document = Document(source.name, root, findings)
    node = document.node(["backend"])
    value = getattr(node, "value", None)
    if node is None or value in ("", "~", "null"):
        return None
    if not isinstance(value, str):
        raise BackendError("wrong-type", "got no text, expected a URL such as sqlite:///jobs.db")
    try:
        return interpolate(value, {**_env_file(document, source, environ), **environ}, {})
    except InterpolationError as error:
        raise BackendError(error.code, error.message, help=error.help) from None


def _env_file(document: Document, source: Source, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the file's own env files; one that is missing is for `check` to complain of."""
    from .environment import parse_environment
    from .values import Values

    names = Values(document, environ, Findings()).key("env_file")
    variables: dict[str, str] = {}
    for name in names if isinstance(names, list) else [names]:
        if isinstance(name, str):
            path = os.path.join(source.folder, os.path.expanduser(name.removeprefix("-")))
            found = read_source(path, name, Findings())
            variables |= parse_environment(found.text, name, Findings()) if found is not None else {}
    return variables
