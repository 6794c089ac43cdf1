"""Who may ask a working supervisor for a reload: the watch over its files, and clients by a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .adoption import Adoption
from .control import ControlSocket, Request
from .events import Emit, HousekeepingFailed
from .loop import EventLoop
from .reloader import Reloader
from .watch import FileWatch


@contextmanager
def attending(
    reloader: Reloader,
    adoption: Adoption,
    *,
    loop: EventLoop,
    emit: Emit,
    folder: str,
    report: Callable[[], None],
) -> Iterator[None]:
    """For the length of the block; `folder` is where the socket lies. Without a source of plans: nobody."""
    if not reloader.can_reload:
        yield
        return

    def trouble(message: str) -> None:
        emit(HousekeepingFailed(message))

    watch = FileWatch(loop, on_change=reloader.changed, on_trouble=trouble)
    control = _listening(loop, folder, reloader.requested, trouble)
    try:
        reloader.serve(adoption, watch, report)
        yield
    finally:
        reloader.close()
        watch.close()
        if control is not None:
            control.close()


def _listening(
    loop: EventLoop, folder: str, on_request: Callable[[Request], None], trouble: Callable[[str], None]
) -> ControlSocket | None:
    try:
        return ControlSocket(loop, folder, on_request)
    except OSError as error:  # SIGHUP and the watch still do
        trouble(f"`jobrunner reload` cannot ask this supervisor: {error}")
        return None
