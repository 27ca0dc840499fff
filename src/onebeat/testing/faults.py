"""Trouble on demand: a store whose calls can be stopped before or after they commit.

Every verb of the Ledger is taken from the port itself, so that a new one is troubled from its first day. A
hook is asked at each Moment; it may raise, kill the process, or look. Raising after a call is a reply that
was lost: the ledger has changed, and the caller does not know.
"""

import inspect
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

from onebeat.core.errors import StoreUnavailable
from onebeat.core.ports import Ledger, Store

LEDGER_VERBS = tuple(
    name for name, member in vars(Ledger).items() if inspect.isfunction(member) and not name.startswith("_")
)
"""Every verb of the port, in its order."""

QUIET_VERBS = frozenset({"now", "due", "broken", "lost", "wait", "wake", "close"})
"""Verbs that commit nothing. All others write, also those that nobody has listed yet."""

WRITING_VERBS = tuple(verb for verb in LEDGER_VERBS if verb not in QUIET_VERBS)


class Moment(NamedTuple):
    """A place at which a process may die: before or after the ``number``-th call (from 1) of a verb."""

    verb: str
    after: bool
    number: int


Hook = Callable[[Moment], None]


class _Hooked:
    def __init__(self, store: Store, hook: Hook) -> None:
        self._store = store
        self._hook = hook
        self._calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        return partial(self._call, name, verb) if name in LEDGER_VERBS else verb

    def _call(self, name: str, verb: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self._calls[name] += 1
        number = self._calls[name]
        self._hook(Moment(name, False, number))
        answer = verb(*args, **kwargs)
        self._hook(Moment(name, True, number))
        return answer


def hooked(store: Store, hook: Hook) -> Store:
    """Return the store with a hook before and after every call of a Ledger verb; reads pass untouched."""
    return cast(Store, _Hooked(store, hook))


class FailNth:
    """A hook that raises once, at the ``nth`` call (from 1) of a verb, before or after its commit.

    ``fired`` tells whether it came to that: a test that waits for trouble must see that there was some.
    """

    def __init__(
        self, verb: str, nth: int = 1, *, after: bool = False, error: BaseException | None = None
    ) -> None:
        if verb not in LEDGER_VERBS:
            raise ValueError(f"{verb!r} is no verb of the ledger; they are {', '.join(LEDGER_VERBS)}")
        self._moment = Moment(verb, after, nth)
        self._error = error
        self.fired = False

    def __call__(self, moment: Moment) -> None:
        """Raise if this is the moment."""
        if moment == self._moment:
            self.fired = True
            where = "after" if moment.after else "before"
            raise self._error or StoreUnavailable(f"on purpose: {moment.verb} failed {where} its commit")
