"""Every error that onebeat raises on purpose, in one tree.

OnebeatError
├── InvalidInput (ValueError)         what was given cannot be meant: fix the input
│   ├── InvalidTrigger                a "when" that cannot be understood or never comes
│   └── LimitExceeded                 well-formed, but larger than a stated limit
├── NotFound (LookupError)            no such schedule, run or node; near misses are named
├── Conflict                          somebody else was first: read again, decide again
├── Refused                           understood, and declined by a rule of the product
│   └── TargetNotFound (LookupError)  a target that this process cannot import or may not run
├── StoreError                        the ledger cannot be used
│   ├── StoreUnavailable (ConnectionError)   for now: try again
│   ├── StoreUnsafe                   the promise would not hold there; nothing overrides it
│   ├── SchemaMismatch                run `onebeat migrate`, or upgrade this node
│   └── BrokenDocument (ValueError)   a stored document that no longer decodes
├── OutletUnavailable (ConnectionError)   a broker takes no messages for now: the outbox tries again
└── MissingExtra (ImportError)        an optional library is absent; the message names the extra

Expected losses (a stale version, a lost lease) are answers of the ledger, not exceptions.
A message says what happened, with the value; why; and what to do. ``code`` is stable: REST bodies,
the command line's exit status and the docs share it.
"""

import difflib
from collections.abc import Iterable


class OnebeatError(Exception):
    """The root of the tree. ``code`` is the stable name, ``exit_status`` what a command ends with."""

    code = "error"
    exit_status = 1


class InvalidInput(OnebeatError, ValueError):
    """What was given cannot be meant: fix the input."""

    code = "invalid_input"
    exit_status = 2


class InvalidTrigger(InvalidInput):
    """A "when" that cannot be understood, or that never comes."""

    code = "invalid_trigger"


class LimitExceeded(InvalidInput):
    """Well-formed, but larger than a stated limit."""

    code = "limit_exceeded"


class NotFound(OnebeatError, LookupError):
    """No such schedule, run or node."""

    code = "not_found"
    exit_status = 3


class Conflict(OnebeatError):
    """Somebody else was first: read again, decide again."""

    code = "conflict"
    exit_status = 4


class Refused(OnebeatError):
    """Understood, and declined by a rule of the product."""

    code = "refused"
    exit_status = 5


class TargetNotFound(Refused, LookupError):
    """A target that this process cannot import, or may not run."""

    code = "target_not_found"


class StoreError(OnebeatError):
    """The ledger cannot be used."""

    code = "store_error"
    exit_status = 6


class StoreUnavailable(StoreError, ConnectionError):
    """The store does not answer for now: try again."""

    code = "store_unavailable"


class StoreUnsafe(StoreError):
    """The promise would not hold on this store; nothing overrides it."""

    code = "store_unsafe"


class SchemaMismatch(StoreError):
    """The store's schema and this code do not go together: migrate, or upgrade this node."""

    code = "schema_mismatch"


class BrokenDocument(StoreError, ValueError):
    """A stored document that no longer decodes; it is kept as it is."""

    code = "broken_document"


class OutletUnavailable(OnebeatError, ConnectionError):
    """What messages leave by does not take them for now: try again."""

    code = "outlet_unavailable"
    exit_status = 6


class MissingExtra(OnebeatError, ImportError):
    """An optional library is absent; the message names the extra to install."""

    code = "missing_extra"
    exit_status = 7


def near_miss(wanted: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``known``, or an empty string."""
    close = difflib.get_close_matches(wanted, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(value: object, limit: int = 80) -> str:
    """Return ``repr(value)`` cut to ``limit`` characters, so that hostile input cannot flood a log."""
    text = repr(value if not isinstance(value, str) else value[: limit + 1])
    return text if len(text) <= limit + 2 else f"{text[:limit]}…"
