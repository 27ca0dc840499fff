"""The ends of bodies on their way into the ledger: those that wait go in one transaction, and no task waits.

    body ends ─► owe ─► writer: one advance for all that wait ─► in the ledger │ refused: said, and an event
                  └ ENDS_MAX wait already: the task waits until there is room

What a death costs between a body's end and its Finish is the same whether the task waits for the write or
not, and whether Celery acknowledges early or late: the lease lapses, and the run is judged as lost. That
window is longer by REST_S, and by a transaction. A process that leaves in order waits for what it owes.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from onebeat.celery.keeper import Keeper
from onebeat.celery.ledger import Ledgers
from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import Advanced, Answer, Done, Finish
from onebeat.core.model import Outcome, Run, RunState
from onebeat.core.ports import Clock, Store
from onebeat.engine.attempt import refused_event

ENDS_MAX = 1000
"""How many ends of one process may wait for the ledger before its tasks wait, too."""
REST_S = 0.005
"""How long the writer rests between two transactions: what ends meanwhile shares the next one."""
PAUSE_S, PAUSE_S_MAX = 0.1, 5.0
WRITES_MAX = 5
"""How often something else is written for an end that the ledger will not take."""

_log = logging.getLogger("onebeat.celery")


class End(NamedTuple):
    """How an attempt ended, and the run as it was taken."""

    run: Run
    finish: Finish


class Ends:
    """What one process has to tell of its bodies' ends. Thread-safe; a child of fork begins with none."""

    def __init__(self, ledgers: Ledgers, clock: Clock, keeper: Keeper, refused: Callable[[], None]) -> None:
        self._ledgers = ledgers
        self._clock = clock
        self._keeper = keeper
        self._refused = refused
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        self._gate = threading.Condition()
        self._waiting: deque[End] = deque()
        self._writer: threading.Thread | None = None
        self._leaves = threading.Event()

    def owe(self, end: End) -> None:
        """Have an end written, soon. Waits only while ENDS_MAX others wait."""
        with self._gate:
            self._gate.wait_for(lambda: len(self._waiting) < ENDS_MAX)
            self._waiting.append(end)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="onebeat-ends", daemon=True)
                self._writer.start()
            self._gate.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait until all ends are in the ledger, for so long at most: this process is about to leave."""
        with self._gate:
            self._leaves.set()
            self._gate.notify_all()
            if not self._gate.wait_for(lambda: not self._waiting, seconds):
                _log.error("%d runs have ended here, and the ledger does not know it", len(self._waiting))

    # --- the thread ---

    def _write(self) -> None:
        pause = PAUSE_S
        while True:
            with self._gate:
                self._gate.wait_for(lambda: self._waiting or self._leaves.is_set())
                batch = list(self._waiting)
                if not batch:  # and none comes any more; if one does, it begins another writer
                    self._writer = None
                    return
            try:
                self._written(batch)
                pause = PAUSE_S
            except Exception as error:  # noqa: BLE001 - whatever it is, who else should write them?
                for each in batch:
                    with suppress(OSError):  # the keeper is gone, and this process with it
                        self._keeper.ended(each.finish.run_id, each.finish.token)
                _log.error("the ends of %d runs are not in the ledger yet: %s", len(batch), error)
                threading.Event().wait(pause)
                pause = min(2 * pause, PAUSE_S_MAX)
                continue
            with self._gate:
                for _ in batch:
                    self._waiting.popleft()
                self._gate.notify_all()
            self._leaves.wait(REST_S)

    def _written(self, batch: list[End]) -> None:
        """Write ends; what the ledger has against one of them must not keep the others back."""
        store = self._ledgers.store()
        try:
            answers = store.advance([end.finish for end in batch])
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the store has against one of them
            if len(batch) == 1:
                answers = [self._insisted(store, batch[0], error)]
            else:
                for end in batch:
                    self._written([end])
                return
        for end, answer in zip(batch, answers, strict=True):
            if answer.answer is Answer.REFUSED:
                self._too_late(store, end)
            with suppress(OSError):  # the keeper is gone, and this process with it
                self._keeper.done((end.finish.run_id, end.finish.token))

    def _insisted(self, store: Store, end: End, error: Exception) -> Advanced:
        """Write that an end cannot be written."""
        reason = f"its result could not be written: {type(error).__name__}"
        finish = Finish(
            run_id=end.finish.run_id,
            token=end.finish.token,
            outcome=Outcome.FAILED,
            verdict=Done(state=RunState.FAILED, reason=reason),
            error=reason,
        )
        for _ in range(WRITES_MAX):
            _log.error("%s: its end cannot be written", finish.run_id, exc_info=error)
            try:
                (answer,) = store.advance([finish])
            except StoreUnavailable:
                raise
            except Exception as again:  # noqa: BLE001 - a result that cannot be written must not hold the others
                error = again
                threading.Event().wait(PAUSE_S)
                continue
            return answer
        return Advanced(answer=Answer.ACCEPTED)  # nothing can be said of it: its lease lapses

    def _too_late(self, store: Store, end: End) -> None:
        run, finish = end
        there = store.run(finish.run_id)
        if there is not None and there.token == run.token and there.outcome is finish.outcome:
            return  # it is as it was to be: the reply was lost, or the keeper was faster
        self._refused()
        event = refused_event(run, finish.outcome, there, at=self._clock.now(), actor=run.holder or "")
        _log.error("%s, attempt %d: %s", finish.run_id, run.attempt, event.reason)
        store.record([event])
