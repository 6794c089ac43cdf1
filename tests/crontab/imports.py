"""The project's own crontabs, and how tests import them: on a machine with three users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import Compiled
from jobrunner.crontabs.parse import Dialect
from jobrunner.crontabs.translate import Imported, Source, translate
from jobrunner.crontabs.write import write

FOLDER: Final = Path(__file__).parent / "crontabs"
CRONTABS: Final = sorted(path.stem for path in FOLDER.glob("*.crontab"))
HOMES: Final = {"root": "/root", "ana": "/home/ana", "www-data": "/var/www"}
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "etc-crontab": {"system": True, "user": "root"},
    "package": {"system": True, "user": "root"},
    "zones": {"dialect": Dialect.CRONIE},
    "wrappers": {"lifting": True},
}


def text_of(name: str) -> str:
    """A crontab as it lies in its file, carriage returns and all."""
    return (FOLDER / f"{name}.crontab").read_bytes().decode()


def imported(text: str, **options: Any) -> Imported:
    """A crontab of ana's, on a machine that knows three users."""
    given: dict[str, Any] = {"user": "ana", "home_of": HOMES.get, **options}
    return translate(Source(text=text, **given))


def compiled(text: str, folder: Path) -> Compiled:
    """What jobrunner makes of the text of a jobs.yaml."""
    file = folder / "jobs.yaml"
    file.write_text(text, encoding="utf-8")
    return compile_file(str(file), environ={"PATH": os.environ["PATH"], "HOME": str(folder)})


def written(text: str, **options: Any) -> str:
    return write(imported(text, **options))
