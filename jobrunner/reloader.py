"""Reload: another plan is compiled in a child, compared, and put in force as a whole or not at all.

change on disk, SIGHUP, `jobrunner reload`  -->  compile  -->  compare  -->  adopt  -->  import callables
                                                    \\--> errors: the last good plan stays in force
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from .adoption import Adoption
from .control import Request
from .difference import Difference, difference
from .durations import SECOND, Micros, from_micros
from .events import Emit, HousekeepingFailed, Reloaded, Reloading, ReloadRefused, TaskBlocked, TaskFree
from .inquiry import Answer, Clerk, Inquiry, Question, awaited
from .loop import EventLoop, LoopTimer
from .plan import Plan, Task

FIRST_LOOK_AGAIN: Final[Micros] = 30 * SECOND  # for a callable that could not be imported; doubled up to
LAST_LOOK_AGAIN: Final[Micros] = 600 * SECOND
FIRST_TRY: Final[Micros] = SECOND  # when the process that reads the file has died; doubled up to
LAST_TRY: Final[Micros] = 10 * SECOND

Document = Mapping[str, object]


class Candidate(NamedTuple):
    """What a compilation gave: a plan, or the problems that forbid one."""

    plan: Plan | None
    problems: tuple[Document, ...] = ()  # as `check --json` prints them
    rendered: str = ""  # as `check` prints them
    watched: tuple[str, ...] = ()
    fingerprint: str = ""
    is_read: bool = True  # else nobody could read the file, and what it says is not known


class Source(Protocol):
    """Where plans come from; user code and pydantic stay in the processes that answer."""

    def compile(self) -> Question:
        """The question that `compiled` reads the answer of."""
        ...

    def compiled(self, answer: Answer) -> Candidate: ...

    def look(self, plan: Plan) -> Question | None:
        """The question whether the plan's callables can be imported; None when it has none."""
        ...

    def judged(self, plan: Plan, answer: Answer) -> Plan:
        """The plan with what was found out about its callables. Raises ValueError for no answer."""
        ...


class Watch(Protocol):
    """What tells of changes on disk."""

    def follow(self, paths: tuple[str, ...], fingerprint: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Somebody wants a reload."""

    by: str
    asked: bool = True  # by a person: fresh workers even when the file says nothing new (semantics 27)
    code: bool = False  # fresh workers alone: the file is not read
    dry_run: bool = False
    answer: Callable[[Document], None] | None = None

    @classmethod
    def of(cls, request: Request) -> Wish:
        """What `jobrunner reload` asks."""
        code, dry_run = (request.document.get(name) is True for name in ("code", "dry_run"))
        return cls(by="jobrunner reload", code=code and not dry_run, dry_run=dry_run, answer=request.answer)


class Reloader:
    """Knows the plan in force; serves one wish, or all that came in meanwhile, at a time."""

    def __init__(
        self, *, plan: Plan, source: Source | None, loop: EventLoop, emit: Emit, is_over: Callable[[], bool]
    ) -> None:
        self.plan = plan
        self.error: str | None = None  # why what the file says now is not in force
        self.loaded_at = loop.now()
        self._source = source
        self._loop = loop
        self._emit = emit
        self._is_over = is_over
        self._adoption: Adoption | None = None
        self._watch: Watch | None = None
        self._report: Callable[[], None] = lambda: None
        self._wishes: list[Wish] = []
        self._is_busy = False
        self._clerk = Clerk(loop)
        self._try_pause: Micros = 0  # before a file that nobody could read is read again
        self._compiling: Inquiry | None = None
        self._looking: Inquiry | None = None
        self._look_timer: LoopTimer | None = None
        self._look_pause: Micros = 0
        self._last: Document | None = None  # the last reload that changed something
        self._watched = plan.watched
        self._fingerprint = plan.fingerprint

    def serve(self, adoption: Adoption, watch: Watch, report: Callable[[], None]) -> None:
        """From now on plans can be changed; `report` tells the storage what `error` and `plan` say."""
        self._adoption, self._watch, self._report = adoption, watch, report
        if self._watched:
            watch.follow(self._watched, self._fingerprint)
        self._look()

    @property
    def can_reload(self) -> bool:
        """Whether there is somewhere to read another plan from."""
        return self._source is not None

    def read_again(self) -> None:
        """Read the file anew, waiting for it: after a long stand-by it may say something else by now."""
        if self._source is None:
            return
        answer = awaited(self._clerk, self._loop, self._source.compile(), self._is_over)
        found = Candidate(None) if answer is None else self._source.compiled(answer)
        if found.plan is not None and found.plan.backend == self.plan.backend:
            self.plan, self.loaded_at = found.plan, self._loop.now()
            self._watched, self._fingerprint = found.watched, found.fingerprint
        elif answer is not None:
            found = found if found.plan is None else _needs_a_restart(found, self.plan.backend)
            self.error = found.rendered
            self._emit(ReloadRefused(self.plan.file, found.rendered))

    def close(self) -> None:
        """End what is under way; nobody is answered."""
        self._clerk.close()
        self._compiling = self._looking = None

    # --- wishes -------------------------------------------------------------------------------------

    def changed(self, fingerprint: str) -> None:
        """The files hold something else."""
        if fingerprint != self._fingerprint:
            self.ask(Wish(by="a change on disk", asked=False))

    def hung_up(self) -> None:
        """SIGHUP; what comes before there is something to reload is ignored."""
        if self._adoption is not None:
            self.ask(Wish(by="SIGHUP"))

    def requested(self, request: Request) -> None:
        """A client asks for something over the control socket."""
        if request.document.get("ask") == "reload":
            self.ask(Wish.of(request))
        else:
            request.answer(_document("refused", self.plan, why="this supervisor only knows: reload"))

    def ask(self, wish: Wish) -> None:
        """Serve this wish, now or after those under way."""
        self._wishes.append(wish)
        self._turn()

    def _turn(self) -> None:
        if self._is_busy or not self._wishes or self._source is None:
            return
        # Those for code alone wait: what the file says, right or wrong, has no say in them.
        wishes = [wish for wish in self._wishes if not wish.code] or self._wishes
        self._wishes = [wish for wish in self._wishes if wish not in wishes]
        if self._is_over():
            self._answer(wishes, _document("refused", self.plan, why="the supervisor is stopping"))
            return
        self._is_busy = True
        if any(not wish.dry_run for wish in wishes):
            self._emit(Reloading(wishes[0].by))
        if all(wish.code for wish in wishes):
            self._adopt(wishes, self.plan, Difference(), fresh=True)
        else:
            self._compile(self._source, wishes)

    def _compile(self, source: Source, wishes: list[Wish]) -> None:
        try:
            self._compiling = self._clerk.ask(source.compile(), partial(self._compiled, source, wishes))
        except OSError as error:
            trouble = f"the file cannot be read now: {error.strerror}; it is read again soon"
            self._unread(wishes, Candidate(None, rendered=trouble, is_read=False))

    def _compiled(self, source: Source, wishes: list[Wish], answer: Answer) -> None:
        self._compiling = None
        self._decide(wishes, source.compiled(answer))

    def _done(self) -> None:
        self._is_busy = False
        self._turn()

    # --- the decision -------------------------------------------------------------------------------

    def _decide(self, wishes: list[Wish], found: Candidate) -> None:
        if not found.is_read:
            self._unread(wishes, found)
            return
        self._try_pause = 0
        self._follow(found)
        if found.plan is None:
            self._refuse(wishes, found)
        elif found.plan.backend != self.plan.backend:
            self._refuse(wishes, _needs_a_restart(found, self.plan.backend))
        else:
            self._compare(wishes, found, found.plan)

    def _follow(self, found: Candidate) -> None:
        """Watch what was read now; after an error, what is in force as well."""
        watched = found.watched if found.plan else tuple(dict.fromkeys((*found.watched, *self.plan.watched)))
        self._fingerprint = found.fingerprint
        if watched != self._watched and self._watch is not None:
            self._watched = watched
            self._watch.follow(watched, found.fingerprint)

    def _compare(self, wishes: list[Wish], found: Candidate, plan: Plan) -> None:
        news = difference(self.plan, plan)
        dry = [wish for wish in wishes if wish.dry_run]
        self._answer(dry, _document("unchanged" if not news else "dry run", plan, news, found.problems))
        wishes = [wish for wish in wishes if not wish.dry_run]
        if not wishes:
            self._done()
            return
        fresh = bool(news) or any(wish.asked for wish in wishes)
        self._adopt(wishes, carried_over(self.plan, plan), news, fresh=fresh, problems=found.problems)

    def _unread(self, wishes: list[Wish], found: Candidate) -> None:
        """What it says is not known, so it is read again soon, without anybody asking for it (I11)."""
        again = [replace(wish, answer=None) for wish in wishes if not wish.dry_run]
        if again:
            self._try_pause = min(LAST_TRY, 2 * self._try_pause or FIRST_TRY)
            self._loop.after(self._try_pause, lambda: self._ask_again(again))
        self._refuse(wishes, found, verdict="refused")

    def _ask_again(self, wishes: list[Wish]) -> None:
        self._wishes += wishes
        self._turn()

    def _refuse(self, wishes: list[Wish], found: Candidate, verdict: str = "invalid") -> None:
        """Nothing changes, and everybody is told."""
        if any(not wish.dry_run for wish in wishes):
            again = self.error == found.rendered and not any(wish.asked for wish in wishes)
            self.error = found.rendered
            self._report()  # first: who is answered looks at the status
            self._emit(ReloadRefused(self.plan.file, found.rendered, again))
        document = _document(verdict, self.plan, problems=found.problems, why=found.rendered)
        self._answer(wishes, document)
        self._done()

    def _adopt(
        self,
        wishes: list[Wish],
        plan: Plan,
        news: Difference,
        *,
        fresh: bool,
        problems: tuple[Document, ...] = (),
    ) -> None:
        def adopted(trouble: str) -> None:
            if trouble:
                self._refuse(wishes, Candidate(None, rendered=trouble))
                return
            if not all(wish.code for wish in wishes):
                self.error, self.loaded_at = None, self._loop.now()
            self.plan = plan
            self._report()  # first: who is answered looks at the status
            self._emit(Reloaded(plan.file, wishes[0].by, news, plan.timezone, fresh))
            verdict = "applied" if news or fresh else "unchanged"
            self._answer(wishes, {**_document(verdict, plan, news, problems), "last": self._last})
            if news:
                at = from_micros(self.loaded_at, ZoneInfo(plan.timezone)).isoformat(timespec="seconds")
                self._last = {"at": at, "by": wishes[0].by, **_names(news)}
            self._look_pause = 0
            self._look()
            self._done()

        if self._adoption is not None:
            self._adoption.adopt(plan, news.removed, fresh=fresh, then=adopted)

    def _answer(self, wishes: list[Wish], document: Document) -> None:
        for wish in wishes:
            if wish.answer is not None:
                wish.answer(document)

    # --- callables ----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Find out, in a child, whether the callables can be imported (semantics 25)."""
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None
        if self._looking is not None:
            self._looking.close()
            self._looking = None
        question = self._source.look(self.plan) if self._source is not None else None
        if question is None or self._is_over():
            return
        try:
            self._looking = self._clerk.ask(question, partial(self._looked, self.plan))
        except OSError as error:
            self._look_failed(str(error))

    def _looked(self, plan: Plan, answer: Answer) -> None:
        self._looking = None
        if self._source is None or self._adoption is None or self._is_over():
            return
        try:
            judged = self._source.judged(plan, answer)
        except ValueError as error:
            self._look_failed(str(error))
            return
        if self._is_busy or plan is not self.plan:
            self._look_later(SECOND)  # a reload is under way: its plan will have to be looked at
        elif judged == plan:
            self._look_at_the_blocked()
        else:
            self._is_busy = True
            self._adoption.adopt(judged, (), fresh=False, then=partial(self._refined, judged))

    def _refined(self, judged: Plan, trouble: str) -> None:
        if trouble:
            self._look_failed(trouble)
        else:
            before, self.plan = self.plan, judged
            self._tell(before, judged)
            self._look_at_the_blocked()
        self._done()

    def _tell(self, before: Plan, now: Plan) -> None:
        for name, task in now.tasks.items():
            if task.blocked != before.tasks[name].blocked:
                self._emit(TaskFree(name) if task.blocked is None else TaskBlocked(name, task.blocked))

    def _look_at_the_blocked(self) -> None:
        """Until it loads: what is missing now may be installed in a minute."""
        if any(task.blocked for task in self.plan.tasks.values()):
            self._look_pause = min(LAST_LOOK_AGAIN, 2 * self._look_pause or FIRST_LOOK_AGAIN)
            self._look_later(self._look_pause)

    def _look_failed(self, why: str) -> None:
        self._emit(HousekeepingFailed(f"the callables could not be looked for: {why}"))
        self._look_later(FIRST_LOOK_AGAIN)

    def _look_later(self, pause: Micros) -> None:
        if self._look_timer is not None:
            self._look_timer.cancel()
        self._look_timer = self._loop.after(pause, self._look)


def carried_over(old: Plan, new: Plan) -> Plan:
    """The new plan with what is known of callables that are the same: it is looked at again, later."""
    tasks = {name: _carried_over(old.tasks.get(name), task) for name, task in new.tasks.items()}
    return replace(new, tasks=tasks)


def _carried_over(old: Task | None, new: Task) -> Task:
    """The very same task when it says the same: executors know tasks by their identity."""
    if old is None or old.call != new.call:
        return new
    known = replace(new, parameters=old.parameters, required=old.required, blocked=old.blocked)
    return old if replace(known, line=old.line) == old else known


def _needs_a_restart(found: Candidate, backend: str) -> Candidate:
    told = found.plan.backend if found.plan else ""
    message = f"backend: {backend} cannot become {told} while the supervisor runs: this needs a restart"
    problem = {
        "file": found.plan.file if found.plan else "",
        "line": 1,
        "column": 1,
        "severity": "error",
        "code": "needs-restart",
        "message": message,
        "help": "restart the supervisor; what waits in the old storage stays there",
    }
    return found._replace(plan=None, problems=(*found.problems, problem), rendered=message)


NOTHING: Final = Difference()


def _document(
    verdict: str,
    plan: Plan,
    news: Difference = NOTHING,
    problems: tuple[Document, ...] = (),
    why: str = "",
) -> Document:
    """What `jobrunner reload` is told; `config_hash` is of what is in force, or would be."""
    return {
        "verdict": verdict,
        "applied": verdict == "applied",
        **_names(news),
        "problems": list(problems),
        "config_hash": plan.hash,
        "rendered": why,
    }


def _names(news: Difference) -> Document:
    return {name: list(names) for name, names in news._asdict().items()}
