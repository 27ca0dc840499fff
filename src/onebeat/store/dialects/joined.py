"""A dialect within one open transaction, which somebody else began and will end.

``SqlStore(Joined(…))`` has all the verbs of the ledger, each a savepoint on that connection. Nothing is done
again after an error, for what went before in the transaction would be missing.
docs/design/009-one-transaction.md
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import NoReturn

from onebeat.core.errors import OnebeatError
from onebeat.store.dialects.protocol import Cell, Dialect, Joint, Row, Session, T

VERB = "onebeat_verb"


class Joined:
    """The dialect of one connection. For one thread, as the connection is."""

    def __init__(self, dialect: Dialect, joint: Joint) -> None:
        self._dialect = dialect
        self._joint = joint
        self.kind = dialect.kind
        self.alone = dialect.alone

    def now(self) -> datetime:
        return self.read(lambda session: session.now())

    def write(self, work: Callable[[Session], T]) -> T:
        self._joint.run(f"SAVEPOINT {VERB}")
        try:
            with self._joint.ours() as session:
                done = work(session)
            self._joint.run(f"RELEASE SAVEPOINT {VERB}")
        except BaseException:
            with suppress(OnebeatError):
                self._joint.run(f"ROLLBACK TO SAVEPOINT {VERB}")
                self._joint.run(f"RELEASE SAVEPOINT {VERB}")
            raise
        return done

    def read(self, work: Callable[[Session], T]) -> T:
        return self.write(work)  # a read that fails must not spoil the transaction either

    def look(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        return self.read(lambda session: session.rows(sql, args))

    def changed(self) -> None:
        """Say nothing: nothing is committed yet, and it may never be."""

    def wake(self) -> None:
        """Wake nobody."""

    def facts(self) -> dict[str, str]:
        return self._dialect.facts()

    def beside(self) -> list[str]:
        return self._dialect.beside()

    def close(self) -> None:
        """Leave the connection to its owner."""

    def adopt(self) -> None:
        """Do nothing: the ledger is in use already."""

    def lend(self) -> AbstractContextManager[Joint]:
        self._refuse()

    def join(self, connection: object) -> Joint:
        self._refuse()

    def wait(self, until: datetime | None) -> bool:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError("a ledger within somebody's transaction neither waits nor begins another")
