"""A hand from outside: what an operator, or another program, does to a ledger past all of ours.

One that holds a SQLite file is a process of its own, ``python -m chaos.hand FILE``: the locks of a file
belong to processes, and the rig may have the file open, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit

from chaos.place import Nobody, Place, python

TOP = Path(__file__).resolve().parents[1]
HAND = "hand"
"""By what name it is known to a server that lists who is there."""

NO_SUCH_USER = 1045
BUSY_MS = 2_000
"""How long one waits for what somebody else holds; then it is Away."""


class Away(Nobody):
    """The server is not there just now, or does not do it."""


class Hand(Protocol):
    """One connection, on which each statement is done by itself until one begins a transaction."""

    def ask(self, *words: str) -> Any:
        """Return the rows of a SQL statement, or what a command of Redis answers. Raises Away."""

    def close(self) -> None:
        """Let go of everything. Safe to repeat."""


def hand_on(place: Place) -> Hand:
    """Open a hand on the ledger of a place. Raises Away."""
    kinds: dict[str, Callable[[str], Hand]] = {
        "sqlite": SqliteHand,
        "postgres": PostgresHand,
        "mariadb": MariadbHand,
        "redis": RedisHand,
    }
    return kinds[place.kind](place.url)


class Shell:
    """A hand that is renewed when its connection was ended, unless the server is away."""

    def __init__(self, place: Place) -> None:
        self.kind = place.kind
        self._place = place
        self._hand: Hand | None = hand_on(place)

    def ask(self, *words: str) -> Any:
        """Do one statement or command, once. Raises Away."""
        try:
            self._hand = self._hand or hand_on(self._place)
            return self._hand.ask(*words)
        except Away:
            self.close()
            raise

    def close(self) -> None:
        """Let go. Safe to repeat."""
        hand, self._hand = self._hand, None
        if hand is not None:
            hand.close()


class PostgresHand:
    def __init__(self, url: str) -> None:
        import psycopg

        at, _, schema = url.partition("?schema=")
        told = f"-c search_path={schema} -c lock_timeout={BUSY_MS}"
        self._error = psycopg.Error
        try:
            self._db = psycopg.connect(
                at, autocommit=True, connect_timeout=3, options=told, application_name=HAND
            )
        except psycopg.Error as error:
            raise Away(str(error)) from error

    def ask(self, *words: str) -> Any:
        try:
            cursor = self._db.execute(words[0].encode())
            return cursor.fetchall() if cursor.description else []
        except self._error as error:
            raise Away(str(error)) from error

    def close(self) -> None:
        self._db.close()


class MariadbHand:
    def __init__(self, url: str) -> None:
        import pymysql
        from tests.servers import mariadb

        self._error = (pymysql.err.MySQLError, OSError)
        try:
            try:
                self._db = mariadb.connected(url.replace("root@", f"{HAND}@"))
            except pymysql.err.OperationalError as error:
                if error.args[0] != NO_SUCH_USER:
                    raise
                with mariadb.connected(url) as db, db.cursor() as cursor:
                    cursor.execute(f"CREATE USER IF NOT EXISTS '{HAND}'@'%'")
                    cursor.execute(f"GRANT ALL ON *.* TO '{HAND}'@'%'")
                self._db = mariadb.connected(url.replace("root@", f"{HAND}@"))
            self._db.autocommit(True)
        except self._error as error:
            raise Away(str(error)) from error
        self.ask("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self.ask(f"SET SESSION innodb_lock_wait_timeout = {BUSY_MS // 1000}")

    def ask(self, *words: str) -> Any:
        try:
            with self._db.cursor() as cursor:
                cursor.execute(words[0])
                return list(cursor.fetchall())
        except self._error as error:
            raise Away(str(error)) from error

    def close(self) -> None:
        with suppress(*self._error):
            self._db.close()


class RedisHand:
    def __init__(self, url: str) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        parts = urlsplit(url)
        self._error = redis.RedisError
        self._server: Any = redis.Redis(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 6379,
            client_name=HAND,
            retry=Retry(NoBackoff(), 0),  # else it is patient for seconds with a server that has no room
            decode_responses=True,
            socket_timeout=BUSY_MS / 1000,
            socket_connect_timeout=3,
        )
        self.ask("PING")

    def ask(self, *words: str) -> Any:
        try:
            return self._server.execute_command(*words)
        except self._error as error:
            raise Away(str(error)) from error

    def close(self) -> None:
        self._server.close()


class SqliteHand:
    def __init__(self, url: str) -> None:
        command = python("chaos.hand", url.removeprefix("sqlite:///"))
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=TOP, stdin=pipe, stdout=pipe, text=True)

    def ask(self, *words: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(words[0]) + "\n")
            self._process.stdin.flush()
            told = self._process.stdout.readline()
        except OSError as error:
            raise Away(str(error)) from error
        answer = json.loads(told or '{"error": "it is gone"}')
        if "error" in answer:
            raise Away(answer["error"])
        return [tuple(row) for row in answer["rows"]]

    def close(self) -> None:
        """Let it die in the middle of what it was doing: the file has to cope."""
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                with suppress(OSError):
                    end.close()


def main(path: str) -> NoReturn:
    import apsw

    db = apsw.Connection(path)
    db.set_busy_timeout(BUSY_MS)
    for line in sys.stdin:
        try:
            answer: dict[str, object] = {"rows": db.execute(json.loads(line)).fetchall()}
        except apsw.Error as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
