"""Run by another interpreter as a script: imports modules, and says which callables they have.

Reads {"path": [...], "patience": seconds, "calls": [[task, "module:attribute"], ...]} from stdin and
writes one JSON object per call. It must not import anything of this project: there may be none.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import os
import pkgutil
import signal
import sys

NAMED = (0, 1, 3)  # inspect.Parameter.kind: positional, positional or by name, by name


def main() -> None:
    """Answer on a descriptor of its own: what the modules print at import goes nowhere."""
    # Byte code is matched by a file's second and size: that of an edit within the same second would be stale.
    sys.dont_write_bytecode = True
    question = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    die_with_parent()
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    sys.path[:0] = question["path"]
    for task, call in question["calls"]:
        answers.write("begun\n")  # from now on it is waited for
        answers.flush()
        # The default action of the alarm ends this process: a hang is told by that.
        signal.setitimer(signal.ITIMER_REAL, question["patience"])
        message, hint, found = look_for(call, question["path"])
        parameters, required = takes(found)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answer = {"task": task, "message": message, "help": hint}
        answers.write(json.dumps({**answer, "parameters": parameters, "required": required}) + "\n")
        answers.flush()
    os._exit(0)  # threads of the imported modules are not waited for


def die_with_parent() -> None:
    """Whoever asked may be killed: this process must not go on alone."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    except (ImportError, OSError, AttributeError):
        pass  # an interpreter without it


def takes(found: object) -> tuple[list[str] | None, list[str]]:
    """The names of a callable's arguments, None when it takes any, and of those that must be given."""
    import inspect

    try:
        arguments = list(inspect.signature(found).parameters.values())  # type: ignore[arg-type]
    except BaseException:  # whatever a callable makes of the question
        return None, []
    required = [each.name for each in arguments if each.default is each.empty and each.kind in NAMED]
    if any(each.kind not in NAMED for each in arguments):
        return None, []
    return [each.name for each in arguments], required


def look_for(call: str, path: list[str]) -> tuple[str, str, object]:
    """What is the matter with a callable, and what to do; two empty texts, and itself, when it was found."""
    module, _, attribute = call.partition(":")
    try:
        found: object = importlib.import_module(module)
    except ModuleNotFoundError as error:
        return *not_there(module, error.name or module, path), None
    except BaseException as error:  # whatever a module raises is the answer
        return f"importing {module} failed: {type(error).__name__}: {error}", "", None
    names = attribute.split(".")
    for number, name in enumerate(names):
        if not hasattr(found, name):
            near = difflib.get_close_matches(name, dir(found), n=1)
            meant = ".".join([*names[:number], *near, *names[number + 1 :]])
            return f"{module} has no {attribute!r}", f"did you mean {module}:{meant}?" if near else "", None
        found = getattr(found, name)
    if not callable(found):
        return f"{call} is not callable, but {type(found).__name__}", "", None
    return "", "", found


def not_there(module: str, missing: str, path: list[str]) -> tuple[str, str]:
    """A module that is not there: the one that was named, or one that it imports."""
    if not (module == missing or module.startswith(missing + ".")):
        return (
            f"importing {module} failed: there is no module {missing!r}",
            f"install it for {sys.executable}",
        )
    near = difflib.get_close_matches(missing.rpartition(".")[2], siblings(missing, path), n=1)
    outer = missing.rpartition(".")[0]
    hint = f"did you mean {outer + '.' if outer else ''}{near[0]}? " if near else ""
    return f"there is no module {missing!r}", f"{hint}looked in {', '.join(path)} and {sys.executable}"


def siblings(missing: str, path: list[str]) -> list[str]:
    """The modules beside the one that is missing."""
    outer = missing.rpartition(".")[0]
    package = sys.modules.get(outer)
    where = list(getattr(package, "__path__", [])) if outer else path
    return [each.name for each in pkgutil.iter_modules(where)]


if __name__ == "__main__":
    main()
