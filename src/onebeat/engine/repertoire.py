"""What a node can run: targets that were asked for, tried, and found to resolve here."""

import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Protocol

from onebeat.core.errors import InvalidInput, TargetNotFound
from onebeat.core.model import Target
from onebeat.core.ports import Store

AGAIN = timedelta(seconds=5)
AGAIN_MAX = timedelta(minutes=5)
PATIENCE = timedelta(seconds=5)
LEARN = timedelta(seconds=0.5)
"""How long a node that is woken again and again does not ask anew which targets are wanted."""
THREAD = "onebeat-targets"

_log = logging.getLogger("onebeat.engine")


class Resolving(Protocol):
    """An executor or an outlet, as far as it knows targets."""

    def resolve(self, target: Target) -> None:
        """Raise TargetNotFound, or InvalidInput, as theirs do."""


class Repertoire:
    """The target keys that the executors, or outlets, of one node have resolved, by kind. It only grows.

    What could not be resolved is tried again after AGAIN, then more and more rarely, up to AGAIN_MAX: trying
    may import a module, and a module that fails to import has run half of its code each time. An import may
    also hang, so trying can be done aside, on a thread; one that takes longer than PATIENCE gets that thread
    for itself, and the others go on beside it.

    ``offered`` are tried at once; those that the ledger names ``aside``, where time is real.
    """

    def __init__(
        self,
        holder: str,
        executors: Mapping[str, Resolving],
        *,
        offered: Sequence[str] = (),
        aside: bool = False,
    ) -> None:
        self._holder = holder
        self._executors = executors
        self._offered = tuple(offered)
        self._aside = aside
        self._greeted = False  # what was offered has been tried once
        self._learn_at: datetime | None = None
        self._keys: dict[str, tuple[str, ...]] = dict.fromkeys(executors, ())
        self._known: set[str] = set()
        self._refused: dict[str, tuple[datetime, timedelta]] = {}  # try again when, and the pause after that
        self._trying: set[str] = set()  # aside, and not answered yet
        self._queue: SimpleQueue[str] = SimpleQueue()
        self._answers: deque[tuple[str, bool]] = deque()
        self._thread: threading.Thread | None = None
        self._moved_at: datetime | None = None  # when the thread began, or last answered

    def of(self, kind: str) -> tuple[str, ...]:
        """Return the keys that the executor of a kind runs."""
        return self._keys[kind]

    def all(self) -> Sequence[str]:
        """Return every key that this node runs."""
        return [key for keys in self._keys.values() for key in keys]

    def keep_up(self, store: Store, now: datetime) -> datetime | None:
        """Learn what the ledger asks for, at most every LEARN; return when there may be more to learn.

        None where only time can tell: everything that is wanted has been tried.
        """
        if self._learn_at is not None and now < self._learn_at:
            return self._learn_at  # woken too early to learn
        # Later ones aside: an import that hangs, or takes long, must not keep leases from being renewed.
        self.learn(self._offered, now, aside=self._aside and self._greeted)
        self.learn(store.targets(), now, aside=self._aside)
        self._greeted = True
        self._learn_at = now + LEARN
        return self._learn_at if self._trying else None

    def set_back(self) -> None:
        """Forget when to learn: the clock that it was planned on was set back."""
        self._learn_at = None

    def learn(self, wanted: Iterable[str], now: datetime, *, aside: bool = False) -> None:
        """Try what is wanted and not known yet: at once, or aside, to be learnt by a later call."""
        while self._answers:
            key, resolves = self._answers.popleft()
            self._trying.discard(key)
            self._learnt(key, resolves, now)
            self._moved_at = now
        for key in wanted:
            if key.partition(":")[0] not in self._executors or key in self._known or key in self._trying:
                continue
            again_at, _ = self._refused.get(key, (now, AGAIN))
            if again_at > now:
                continue
            if aside:
                self._trying.add(key)
                self._queue.put(key)
            else:
                self._learnt(key, self._resolves(key), now)
        if not self._queue.empty():
            self._see_to_it(now)

    def _learnt(self, key: str, resolves: bool, now: datetime) -> None:
        if resolves:
            kind = key.partition(":")[0]
            self._known.add(key)
            self._keys[kind] = (*self._keys[kind], key)
            self._refused.pop(key, None)
        else:
            _, pause = self._refused.get(key, (now, AGAIN))
            self._refused[key] = (now + pause, min(pause * 2, AGAIN_MAX))

    def _see_to_it(self, now: datetime) -> None:
        """Have a thread try what waits; another one where that hangs."""
        if self._thread is not None and self._thread.is_alive():
            if self._moved_at is not None and now - self._moved_at < PATIENCE:
                return
            _log.warning("%s: trying a target takes longer than %s; others go on", self._holder, PATIENCE)
        self._moved_at = now
        self._thread = threading.Thread(target=self._try_all, name=THREAD, daemon=True)
        self._thread.start()

    def _try_all(self) -> None:
        while True:
            try:
                key = self._queue.get_nowait()
            except Empty:
                return
            self._answers.append((key, self._resolves(key)))

    def _resolves(self, key: str) -> bool:
        kind, _, address = key.partition(":")
        target = Target(kind=kind, address=address)
        try:
            self._executors[kind].resolve(target)
        except InvalidInput:
            return True  # it can run; whether the arguments fit is a question to each schedule's own
        except TargetNotFound as error:
            _log.info("%s does not take %s: %s", self._holder, target.key, error)
            return False
        except Exception:  # noqa: BLE001 - its contract names two errors; a stranger may not know
            _log.exception("%s: %s failed to resolve %s", self._holder, target.kind, target.key)
            return False
        return True
