"""The questions of one worker's calls, and the ways back for their answers."""

from __future__ import annotations

from collections.abc import Callable

from . import Ask, Call, wire


class Reply:
    """The way back for one answer."""

    __slots__ = ("_number", "_replies", "call", "is_wanted", "text")

    def __init__(self, replies: Replies, number: int, call: Call | None, text: str) -> None:
        self._replies = replies
        self._number = number
        self.call = call
        self.text = text
        self.is_wanted = True  # whether somebody still waits for it

    def send(self, text: str) -> None:
        """Answer; does nothing when nobody waits any more."""
        if self.is_wanted:
            self.is_wanted = False
            self._replies.send(self._number, text)


class Replies:
    """Those that are to be answered."""

    def __init__(self, ask: Ask, send: Callable[[bytes], None]) -> None:
        self._ask = ask
        self._send = send
        self._open: dict[int, Reply] = {}

    def take(self, number: int, call: Call | None, text: str) -> None:
        """A question has come, or (no text) one is taken back."""
        if not text:
            reply = self._open.pop(number, None)
            if reply is not None:
                reply.is_wanted = False
            return
        reply = self._open[number] = Reply(self, number, call, text)
        self._ask(call, text, reply)

    @property
    def waits(self) -> int:
        """How many calls wait for another run."""
        waiting = {id(reply.call) for reply in self._open.values() if reply.text.startswith(wire.WAITS)}
        return len(waiting)

    def send(self, number: int, text: str) -> None:
        del self._open[number]
        self._send(wire.line("N", number, text))

    def close(self) -> None:
        """The worker is no more."""
        for reply in self._open.values():
            reply.is_wanted = False
        self._open.clear()
