"""What a node can run: targets that were asked for, tried, and found to resolve here."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from onebeat.core.errors import InvalidInput, TargetNotFound
from onebeat.core.model import Target
from onebeat.core.ports import Executor

AGAIN = timedelta(seconds=5)
AGAIN_MAX = timedelta(minutes=5)

_log = logging.getLogger("onebeat.engine")


class Repertoire:
    """The target keys that the executors of one node have resolved, by kind. It only grows.

    What could not be resolved is tried again after AGAIN, then more and more rarely, up to AGAIN_MAX: trying
    may import a module, and a module that fails to import has run half of its code each time.
    """

    def __init__(self, holder: str, executors: Mapping[str, Executor]) -> None:
        self._holder = holder
        self._executors = executors
        self._keys: dict[str, tuple[str, ...]] = dict.fromkeys(executors, ())
        self._known: set[str] = set()
        self._refused: dict[str, tuple[datetime, timedelta]] = {}  # try again when, and the pause after that

    def of(self, kind: str) -> tuple[str, ...]:
        """Return the keys that the executor of a kind runs."""
        return self._keys[kind]

    def all(self) -> Sequence[str]:
        """Return every key that this node runs."""
        return [key for keys in self._keys.values() for key in keys]

    def learn(self, wanted: Iterable[str], now: datetime) -> None:
        """Try what is wanted and not known yet."""
        for key in wanted:
            kind, _, address = key.partition(":")
            executor = self._executors.get(kind)
            if executor is None or key in self._known:
                continue
            again_at, pause = self._refused.get(key, (now, AGAIN))
            if again_at > now:
                continue
            if self._resolves(executor, Target(kind=kind, address=address)):
                self._known.add(key)
                self._keys[kind] = (*self._keys[kind], key)
                self._refused.pop(key, None)
            else:
                self._refused[key] = (now + pause, min(pause * 2, AGAIN_MAX))

    def _resolves(self, executor: Executor, target: Target) -> bool:
        try:
            executor.resolve(target)
        except InvalidInput:
            return True  # it can run; whether the arguments fit is a question to each schedule's own
        except TargetNotFound as error:
            _log.info("%s does not take %s: %s", self._holder, target.key, error)
            return False
        except Exception:  # noqa: BLE001 - its contract names two errors; a stranger may not know
            _log.exception("%s: executor %s failed to resolve %s", self._holder, target.kind, target.key)
            return False
        return True
