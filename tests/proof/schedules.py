"""Runs every order in which the SQL statements of concurrent operations can meet, on a real PostgreSQL.

Each operation runs in a thread and a connection of its own, and halts before each statement, COMMIT and ROLLBACK until
its turn comes. The orders are walked depth first: each run repeats a prefix of choices and continues with the first
operation that can, until every choice has been tried. While a statement waits for a row lock, the others go on.

Of the orders that differ only in statements that commute (two reads; different tables; changes inside a transaction and
reads outside it), one is run: sleep sets (Godefroid, 1996). `footprints.py` says what commutes.

An operation may consist of parts (the guard lets a request in, then the view acts), separated by `next_part`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread, local
from typing import Any, Self

from django.db import connection, connections

from tests.proof.footprints import Footprint, Transaction

Act = Callable[[], Any]

IMPATIENCE = 0.002
"""Seconds after which the stage asks whether a statement that has not returned waits for a lock."""

PATIENCE = 30
"""Seconds; longer than PostgreSQL needs to find a deadlock."""


class Stuck(Exception):
    """No operation can go on, and PostgreSQL sees no deadlock."""


class Over(Exception):
    """The stage closes in the middle of an operation."""


@dataclass
class Halt:
    """A statement that is about to be sent: its part of the operation, and what it touches."""

    sql: str
    part: int
    footprint: Footprint


@dataclass
class Step:
    """A statement that ran: its actor, and the halts of all actors that could have gone on instead."""

    actor: int
    halts: dict[int, Halt]
    asleep: set[int]
    """The actors that need no turn here: an earlier schedule was the same but for statements that commute."""

    @property
    def halt(self) -> Halt:
        return self.halts[self.actor]

    def untried(self) -> list[int]:
        """Return the actors that could go on here and have not been tried. They are tried in order."""
        return [actor for actor in sorted(self.halts) if actor > self.actor and actor not in self.asleep]


@dataclass
class Schedule:
    """One order: its steps, and the outcome of each operation, in the order of the operations."""

    steps: list[Step] = field(default_factory=list)
    outcomes: list[Any] = field(default_factory=list)
    began: list[int] = field(default_factory=list)
    """The step before which each operation's first statement was sent."""

    ended: list[int] = field(default_factory=list)
    """The number of steps after which each operation had returned."""

    is_new: bool = True
    """Whether it differs from earlier ones by more than statements that commute."""

    def __str__(self) -> str:
        return "\n".join(f"  {step.actor}: {step.halt.sql[:150]}" for step in self.steps)


_here = local()


def next_part() -> None:
    """Begin another part of the operation, which need not be atomic with the parts before."""
    _here.part = getattr(_here, "part", 0) + 1


class Actor(Thread):
    """A thread with a connection, which runs one operation after another, one statement at a time."""

    def __init__(self, number: int, reports: "SimpleQueue[tuple[int, Halt | None]]") -> None:
        super().__init__(name=f"actor {number}", daemon=True)
        self.number, self.reports = number, reports
        self.jobs: SimpleQueue[Act | None] = SimpleQueue()
        self.leave = Semaphore(0)
        self.transaction = Transaction()
        self.outcome: Any = None
        self.pid = 0
        self.is_over = False

    def run(self) -> None:
        connection.ensure_connection()
        self.pid = connection.connection.info.backend_pid
        wrapper: Any = connections["default"]
        for name in ("_commit", "_rollback"):
            setattr(wrapper, name, self._halting(name.strip("_").upper(), getattr(wrapper, name)))
        self.reports.put((self.number, None))
        with connection.execute_wrapper(self._execute):
            while (act := self.jobs.get()) is not None:
                _here.part = 0
                try:
                    self.outcome = act()
                except Exception as error:  # noqa: BLE001 (any exception is the outcome)
                    self.outcome = error
                self.reports.put((self.number, None))
        wrapper.close()

    def _halting(self, name: str, act: Act) -> Act:
        def halted() -> Any:
            self._halt(name, self.transaction.end())
            return act()

        return halted

    def _execute(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        self._halt(sql, self.transaction.add(sql, within=connection.in_atomic_block))
        return execute(sql, params, many, context)

    def _halt(self, sql: str, footprint: Footprint) -> None:
        self.reports.put((self.number, Halt(sql, _here.part, footprint)))
        self.leave.acquire()
        if self.is_over:
            raise Over


class Stage:
    """Runs schedules of up to `size` operations. A context: the threads and connections live as long as it does."""

    def __init__(self, size: int) -> None:
        self.reports: SimpleQueue[tuple[int, Halt | None]] = SimpleQueue()
        self.actors = [Actor(number, self.reports) for number in range(size)]
        self.halted: dict[int, Halt] = {}
        self.waiting: set[int] = set()

    def __enter__(self) -> Self:
        for actor in self.actors:
            actor.start()
        for _ in self.actors:
            self.reports.get(timeout=PATIENCE)
        return self

    def __exit__(self, *error: object) -> None:
        for actor in self.actors:
            actor.is_over = True
            actor.jobs.put(None)
            actor.leave.release()
        for actor in self.actors:
            actor.join(PATIENCE)

    def explore(self, prepare: Callable[[], Sequence[Act]], *, serially: bool = False) -> Iterator[Schedule]:
        """Yield every schedule of the operations that `prepare` returns after it has set up their initial state.

        `serially`: only those in which no two parts of operations overlap.
        """
        prefix: list[tuple[int, set[int]]] | None = []
        while prefix is not None:
            schedule = self.run(prepare(), prefix, serially=serially)
            if schedule.is_new:
                yield schedule
            prefix = _next(schedule)

    def run(
        self, acts: Sequence[Act], prefix: Sequence[tuple[int, set[int]]] = (), *, serially: bool = False
    ) -> Schedule:
        """Run one schedule. `prefix` has the turns, and the sleeping actors, of its beginning."""
        schedule = Schedule(began=[-1] * len(acts), ended=[-1] * len(acts))
        self.halted, self.waiting = {}, set()
        for number, act in enumerate(acts):
            self.actors[number].jobs.put(act)
            self._await({number}, schedule)
        asleep: set[int] = set()
        while self.halted or self.waiting:
            if not self.halted:  # PostgreSQL ends a deadlock by an error in one of the operations.
                self._await_any(schedule)
                continue
            at = len(schedule.steps)
            halts = self._in_the_same_part(schedule) if serially else dict(self.halted)
            if at < len(prefix):
                actor, asleep = prefix[at]
            else:
                awake = [number for number in sorted(halts) if number not in asleep]
                # If all are asleep, the rest runs only to finish.
                schedule.is_new &= bool(awake)
                actor = min(awake or halts)
            step = Step(actor, halts, set(asleep))
            schedule.steps.append(step)
            asleep = set() if serially else _asleep_after(step)
            if schedule.began[actor] < 0:
                schedule.began[actor] = at
            del self.halted[actor]
            self.actors[actor].leave.release()
            self._await({actor, *self.waiting}, schedule)
        schedule.outcomes = [actor.outcome for actor in self.actors[: len(acts)]]
        return schedule

    def _in_the_same_part(self, schedule: Schedule) -> dict[int, Halt]:
        """Return the actors that may go on if no part of an operation may be interrupted."""
        if schedule.steps:
            last = schedule.steps[-1]
            halt = self.halted.get(last.actor)
            if halt is not None and halt.part == last.halt.part:
                return {last.actor: halt}
        return dict(self.halted)

    def _await(self, running: set[int], schedule: Schedule) -> None:
        """Wait until each of them has halted, has returned, or waits for a lock."""
        self.waiting = set()
        while running - self.waiting:
            try:
                number, halt = self.reports.get(timeout=IMPATIENCE)
            except Empty:
                self.waiting = self._blocked(running)
                continue
            running.discard(number)
            self._note(number, halt, schedule)
            # This one may have released what the waiting ones need.
            self.waiting = set()

    def _await_any(self, schedule: Schedule) -> None:
        try:
            number, halt = self.reports.get(timeout=PATIENCE)
        except Empty:
            raise Stuck(str(schedule)) from None
        self._note(number, halt, schedule)
        self._await(self.waiting - {number}, schedule)

    def _note(self, number: int, halt: Halt | None, schedule: Schedule) -> None:
        if halt is None:
            schedule.ended[number] = len(schedule.steps)
        else:
            self.halted[number] = halt

    def _blocked(self, running: set[int]) -> set[int]:
        pids = {self.actors[number].pid: number for number in running}
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM unnest(%s::int[]) pid WHERE cardinality(pg_blocking_pids(pid)) > 0", [list(pids)]
            )
            return {pids[pid] for (pid,) in cursor.fetchall()}


def _asleep_after(step: Step) -> set[int]:
    """Return the actors that stay asleep: those whose statement could also have come before this one."""
    asleep = step.asleep | {actor for actor in step.halts if actor < step.actor}
    taken = step.halt.footprint
    return {actor for actor in asleep if actor in step.halts and not step.halts[actor].footprint.meets(taken)}


def _next(schedule: Schedule) -> list[tuple[int, set[int]]] | None:
    """Return the choices for the next schedule: it changes the last choice that has an untried alternative."""
    for at in range(len(schedule.steps) - 1, -1, -1):
        step = schedule.steps[at]
        if later := step.untried():
            taken = [(earlier.actor, earlier.asleep) for earlier in schedule.steps[:at]]
            return [*taken, (later[0], step.asleep)]
    return None
