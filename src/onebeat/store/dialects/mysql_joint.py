"""A MySQL transaction that the ledger shares: its settings are its owner's, but for our statements."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from typing import Any

from onebeat.store.dialects import mysql_driver as driver
from onebeat.store.dialects.mysql_driver import Plain
from onebeat.store.dialects.mysql_session import MysqlSession
from onebeat.store.dialects.protocol import Session
from onebeat.store.dialects.repeating import once


class MysqlJoint:
    """A Joint. ``settings`` are the ledger's own; ``now`` is as in MysqlSession."""

    def __init__(
        self,
        connection: Any,
        place: str,
        settings: Mapping[str, str | int],
        now: Callable[[], datetime] | None,
    ) -> None:
        self.connection = connection
        self._plain = Plain(connection)
        self._place = place
        self._settings = settings
        self._now = now

    def session(self) -> MysqlSession:
        """Return a session on this connection."""
        return MysqlSession(self._plain, self._now)

    def run(self, sql: str) -> None:
        with self._words():
            self.session().rows(sql)

    @contextmanager
    def ours(self) -> Iterator[Session]:
        with self._words():
            session = self.session()
            found = session.rows("SELECT " + ", ".join(f"@@{name}" for name in self._settings))[0]
            setting = "SET " + ", ".join(f"SESSION {name} = ?" for name in self._settings)
            session.rows(setting, [*self._settings.values()])
            try:
                yield session
            except BaseException:
                with suppress(driver.DriverError):
                    session.rows(setting, found)
                raise
            session.rows(setting, found)

    def _words(self) -> AbstractContextManager[None]:
        return once(driver.DriverError, driver.in_our_words, self._place)
