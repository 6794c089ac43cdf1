"""What a listener worker calls: the receivers of the modules that have some."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from .. import hooks
from ..hooks import Notice, Signal
from ..plain import from_plain


def hear(modules: Sequence[str], told: Sequence[dict[str, object]]) -> None:
    """Tell the receivers of these modules. A module that cannot be imported is reported, the others hear."""
    failed = []
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            failed.append(f"{module}: {type(error).__name__}: {error}")
    hooks.start()
    for each in told:
        notice = from_plain(Notice, each)
        if notice.signal is not Signal.EXECUTING:
            hooks.send(notice)
    if failed:
        raise ImportError(f"receivers that cannot be imported: {'; '.join(failed)}")
