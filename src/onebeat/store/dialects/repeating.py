"""What is done about an error of a server: the whole transaction again, soon or later, or giving up.

    ROLLED_BACK   the database chose another transaction (deadlock, serialization): again, almost at once
    TAKEN         a unique value was there first: again, so that the verb sees it; then it is an error
    GONE          the server or the way to it: connect anew, with growing pauses
    BUSY          a row, or the server, was held by others for longer than we wait: say so

That is safe because every verb is a compare-and-set, also where the answer to a commit was lost: the
repetition finds what the first one left, and answers *stale* or *repeated*.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeVar

from onebeat.core.errors import StoreError, StoreUnavailable

T = TypeVar("T")

ATTEMPTS = 6
FIRST_PAUSE_S = 0.002
PAUSE_AFTER_GONE_S = 0.05


class Trouble(Enum):
    """Kinds of errors that may pass."""

    ROLLED_BACK = "rolled back"
    TAKEN = "taken"
    GONE = "gone"
    BUSY = "busy"


TRIES = {Trouble.ROLLED_BACK: ATTEMPTS, Trouble.TAKEN: 3, Trouble.GONE: ATTEMPTS, Trouble.BUSY: 1}


class Passing(Exception):
    """An error of the driver that may pass."""

    def __init__(self, trouble: Trouble, what: str) -> None:
        super().__init__(what)
        self.trouble = trouble


def repeated(transact: Callable[[], T], place: str, gone: Callable[[], None]) -> T:
    """Do a whole transaction, and again after a Passing error; ``gone`` forgets the connections.

    Raises StoreUnavailable when it does not pass in time, StoreError when a value stays taken.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return transact()
        except Passing as passing:
            if passing.trouble is Trouble.GONE:
                gone()
            if attempt < TRIES[passing.trouble]:
                _pause(passing.trouble, attempt)
                continue
            raise lasting(passing, place) from passing.__cause__
    raise AssertionError("the last attempt returns or raises")


def lasting(passing: Passing, place: str) -> StoreError:
    """Return what to raise for an error that may pass where nothing is done again."""
    if passing.trouble is Trouble.TAKEN:
        return StoreError(f"{place} holds such a row already: {passing}")
    return StoreUnavailable(
        f"{place} could not be used: {passing}; nothing is known to have changed, try again"
    )


@contextmanager
def once(
    errors: type[Exception], in_our_words: Callable[[Any, str], Exception], place: str
) -> Iterator[None]:
    """Raise what a driver raises within it in the words of the house; nothing is done again."""
    try:
        yield
    except errors as error:
        said = in_our_words(error, place)
        raise (lasting(said, place) if isinstance(said, Passing) else said) from error


def _pause(trouble: Trouble, attempt: int) -> None:
    """Wait a little longer each time; not as long as another thread or process, or they meet again."""
    share = 0.5 + (threading.get_ident() // 64 + os.getpid()) % 97 / 97
    first = PAUSE_AFTER_GONE_S if trouble is Trouble.GONE else FIRST_PAUSE_S
    threading.Event().wait(first * 2 ** (attempt - 1) * share)
