"""Acting within a transaction that the caller has open: made with their commit, or not at all.

Only what may become visible late can be done there. An edit could not: it settles what the old definition
owed up to its cut, and its cut would be older than its commit. docs/design/009-one-transaction.md
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, NoReturn, Unpack

from onebeat.app.desk import Desk, Written
from onebeat.app.runs import Runs
from onebeat.app.schedules import Schedules
from onebeat.app.targets import Targets
from onebeat.core.definition import Options
from onebeat.core.errors import InvalidInput, Refused
from onebeat.core.model import Run, Target, TriggerSpec
from onebeat.core.ports import Sharing


class Using:
    """The acts that may share a transaction. For one thread, and for as long as the transaction is open."""

    def __init__(self, desk: Desk, targets: Targets, connection: object) -> None:
        store = desk.store
        if not isinstance(store, Sharing):
            raise InvalidInput(
                f"using() needs a ledger in a SQL database, in which the connection may write too; "
                f"{desk.place} has no transaction to share: act after your commit"
            )
        self._store = store
        within = desk.within(store.join(connection))
        self.schedules = UsedSchedules(within, targets)
        self.runs = UsedRuns(within)

    def committed(self) -> None:
        """Tell the nodes of your commit, after it: they look at once, and not at their next poll."""
        self._store.committed()


class UsedSchedules:
    """Schedules, as far as they may be written in the caller's transaction."""

    def __init__(self, desk: Desk, targets: Targets) -> None:
        self._schedules = Schedules(desk, targets)

    def put(
        self,
        name: str,
        trigger: str | TriggerSpec,
        target: str | Target | Callable[..., Any],
        *,
        if_exists: Literal["error", "ignore"] = "error",
        paused: bool = False,
        run_now: bool = False,
        reason: str = "",
        **options: Unpack[Options],
    ) -> Written:
        """Bring a schedule into being with the caller's commit; it is as ``beat.schedules.put`` else.

        It begins when this is called: what comes due between that and the commit fires after the commit,
        late, as far as its grace allows.

        Raises:
            InvalidInput: something cannot be meant; the message says what to write.
            Conflict: the name is taken.
            Refused: ``if_exists`` is ``replace``, which would be an edit.

        """
        if if_exists not in ("error", "ignore"):
            _refuse("schedules.put with if_exists='replace'")
        return self._schedules.put(
            name,
            trigger,
            target,
            if_exists=if_exists,
            paused=paused,
            run_now=run_now,
            reason=reason,
            **options,
        )

    def __getattr__(self, name: str) -> NoReturn:
        _absent(self, "schedules", Schedules, name)


class UsedRuns:
    """Runs, as far as they may be written in the caller's transaction."""

    def __init__(self, desk: Desk) -> None:
        self._runs = Runs(desk)

    def request(
        self,
        name: str,
        *,
        key: str | None = None,
        at: datetime | None = None,
        forced: bool = False,
        reason: str = "",
    ) -> Run:
        """Ask for one run with the caller's commit; it is as ``beat.runs.request`` else.

        Until the commit, its schedule's row is locked.

        Raises:
            NotFound: there is no such schedule.
            Refused: the overlap policy has no place for it; the message says what stands in the way.

        """
        return self._runs.request(name, key=key, at=at, forced=forced, reason=reason)

    def __getattr__(self, name: str) -> NoReturn:
        _absent(self, "runs", Runs, name)


def _refuse(what: str) -> NoReturn:
    raise Refused(
        f"{what} is not for a transaction of yours, which may commit at any time: an edit settles what the "
        "old definition owes when it is made, and others would go on by it until your commit; call it on "
        "beat itself. New schedules and requests for runs may be made here"
    )


def _absent(thing: object, room: str, whole: type, name: str) -> NoReturn:
    if hasattr(whole, name):
        _refuse(f"{room}.{name}")
    raise AttributeError(f"{type(thing).__name__!r} object has no attribute {name!r}")
