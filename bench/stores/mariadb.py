"""MariaDB: a server of our own with what makes it durable switched on, or the one of a URL."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tests.servers import mariadb

from bench.stores import NEWEST, RUN_CELLS, SCHEDULES, Fire, Newest
from bench.stores.servers import Started

DURABLE = {
    "innodb-flush-log-at-trx-commit": "1",
    "innodb-doublewrite": "1",
    "innodb-buffer-pool-size": "1G",
    "innodb-log-file-size": "1G",
    "max-allowed-packet": "64M",
}
TOLD = (
    "version",
    *[name.replace("-", "_") for name in DURABLE],
    "log_bin",
    "sync_binlog",
    "innodb_flush_method",
)
SIZE = """SELECT data_length + index_length FROM information_schema.tables
    WHERE table_name = 'onebeat_runs' AND table_schema = database()"""
FIRED = f"INSERT INTO onebeat_runs ({RUN_CELLS}) VALUES "
SETTLED = """UPDATE JSON_TABLE({}, '$[*]' COLUMNS (id BIGINT PATH '$[0]', version BIGINT PATH '$[1]',
    mark BIGINT PATH '$[2]', next BIGINT PATH '$[3]')) AS d STRAIGHT_JOIN onebeat_schedules AS s FORCE INDEX
    FOR JOIN (PRIMARY) ON s.id = d.id AND s.version = d.version
    SET s.version = s.version + 1, s.settled_until = d.mark, s.next_at = d.next"""
NAMED = """UPDATE JSON_TABLE({}, '$[*]' COLUMNS (id VARCHAR(255) PATH '$[0]', token BIGINT PATH '$[1]')) AS d
    STRAIGHT_JOIN onebeat_runs AS r FORCE INDEX FOR JOIN (id) ON r.id = d.id AND """
CLAIMED = f"""{NAMED} r.state = 'ready' SET r.state = 'running', r.watch_at = {{}}, r.attempt = r.attempt + 1,
    r.token = d.token, r.holder = 'bench', r.lease_until = {{}}, r.claimed_at = {{}}"""
STARTED = f"{NAMED} r.token = d.token SET r.started_at = {{}}"
FINISHED = f"""{NAMED} r.token = d.token SET r.state = 'succeeded', r.slot = NULL, r.watch_at = NULL,
    r.lease_until = NULL, r.finished_at = {{}}, r.outcome = 'succeeded'"""


class Place:
    """A server; each ledger is a database."""

    wakes = False
    counted = "statements as the server's counter `Questions` has them, BEGIN and COMMIT among them"

    def __init__(self, place: Path, url: str | None) -> None:
        self._ours: Started | None = None
        if url is None:
            self._ours = Started(place / "mariadb", partial(mariadb.command, settings=DURABLE))
            url = self._ours.answering(mariadb.answers)
        self._url = url
        self._db = mariadb.connected(url)

    def about(self) -> dict[str, object]:
        names = ", ".join(f"'{name}'" for name in TOLD)
        return dict(_rows(self._db, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"))

    def ledger(self, name: str) -> str:
        name = f"bench_{name.replace('-', '_')}"
        mariadb.make(self._url, name)
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def drop(self, url: str) -> None:
        mariadb.forget(url, [urlsplit(url).path.removeprefix("/")])

    def floor(self, url: str) -> "Hands":
        return Hands(url)

    def newest(self, url: str) -> Newest:
        db = mariadb.connected(url)
        db.autocommit(True)
        return lambda seq: list(_rows(db, NEWEST.format(seq)))

    analyze = "ANALYZE TABLE onebeat_runs, onebeat_schedules, onebeat_definitions, onebeat_changes"

    def run(self, url: str, sql: str) -> None:
        db = mariadb.connected(url)
        db.autocommit(True)
        _rows(db, "SET SESSION sql_mode = 'PIPES_AS_CONCAT'")
        _rows(db, sql)
        db.close()

    def numbers(self, count: int) -> str:
        return f"(SELECT seq AS n FROM seq_1_to_{count}) AS g"

    def state(self, url: str) -> dict[str, object]:
        db = mariadb.connected(url)
        ((size,),) = _rows(db, SIZE)
        db.close()
        return {"bytes": int(size)}

    def asked(self) -> int | None:
        return int(_rows(self._db, "SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])

    def close(self) -> None:
        self._db.close()
        if self._ours is not None:
            self._ours.end()


class Hands:
    """PyMySQL: texts that are made here, JSON_TABLE for what is compared, many rows in one INSERT."""

    def __init__(self, url: str) -> None:
        self._db = mariadb.connected(url)
        self._db.autocommit(True)
        _rows(self._db, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    def schedules(self) -> list[tuple[Any, ...]]:
        return list(_rows(self._db, SCHEDULES))

    def _all(self, count: int, *statements: str) -> None:
        with self._db.cursor() as cursor:
            cursor.execute("START TRANSACTION")
            for sql in statements:
                assert cursor.execute(sql) == count
            cursor.execute("COMMIT")

    def settle(self, batch: Sequence[Fire]) -> None:
        marks = [(each.run[1], each.version, each.run[16], each.next_at) for each in batch]
        runs = ",".join([f"({','.join([_literal(cell) for cell in each.run])})" for each in batch])
        self._all(len(batch), SETTLED.format(_document(marks)), FIRED + runs)

    def claim(self, batch: Sequence[tuple[str, int]], at: int, until: int) -> None:
        self._all(len(batch), CLAIMED.format(_document(batch), until, until, at))

    def start(self, batch: Sequence[tuple[str, int]], at: int) -> None:
        self._all(len(batch), STARTED.format(_document(batch), at))

    def finish(self, batch: Sequence[tuple[str, int]], at: int) -> None:
        self._all(len(batch), FINISHED.format(_document(batch), at))

    def close(self) -> None:
        self._db.close()


def _rows(db: Any, sql: str) -> list[tuple[Any, ...]]:
    with db.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _literal(cell: object) -> str:
    if isinstance(cell, str):
        return f"'{cell}'"
    return "NULL" if cell is None else str(cell)


def _document(rows: Sequence[Sequence[Any]]) -> str:
    return f"'{json.dumps(rows)}'"
