"""PostgreSQL: a server of our own with what makes it durable switched on, or the one of a URL."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from tests.servers import postgres

from bench.stores import NEWEST, RUN_CELLS, SCHEDULES, Fire, Newest
from bench.stores.servers import Started
from onebeat.store.dialects.postgres import PLANNING

DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "min_wal_size": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "log_min_messages": "warning",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.max": "5000",
}
TOLD = (*list(DURABLE)[:7], "autovacuum", "wal_level", "max_connections")
NUMBERS, TEXTS = "%s::bigint[]", "%s::text[]"
LOG_FILES = 48
"""Made when the server starts, as a server that has been up for a while has them to write over: making one
keeps every commit waiting, here for 30 to 80 ms."""
LOG_FILE_ENDED = "SELECT pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()"
KINDS = (TEXTS, NUMBERS, TEXTS, *[NUMBERS] * 4, TEXTS, TEXTS, *[NUMBERS] * 12)
SETTLED = f"""UPDATE onebeat_schedules AS s SET version = s.version + 1, settled_until = d.mark,
    next_at = d.next FROM unnest({", ".join([NUMBERS] * 4)}) AS d (id, version, mark, next)
    WHERE s.id = d.id AND s.version = d.version"""
FIRED = f"INSERT INTO onebeat_runs ({RUN_CELLS}) SELECT * FROM unnest({', '.join(KINDS)})"
NAMED = f"FROM unnest({TEXTS}, {NUMBERS}) AS d (id, token) WHERE r.id = d.id AND"
CLAIMED = f"""UPDATE onebeat_runs AS r SET state = 'running', watch_at = %s, attempt = attempt + 1,
    token = d.token, holder = 'bench', lease_until = %s, claimed_at = %s {NAMED} state = 'ready'"""
STARTED = f"UPDATE onebeat_runs AS r SET started_at = %s {NAMED} r.token = d.token"
FINISHED = f"""UPDATE onebeat_runs AS r SET state = 'succeeded', slot = NULL, watch_at = NULL,
    lease_until = NULL, finished_at = %s, outcome = 'succeeded' {NAMED} r.token = d.token"""
STATE = """SELECT pg_total_relation_size(relid), n_dead_tup, autovacuum_count,
    (SELECT sum(seq_scan)::bigint FROM pg_stat_user_tables AS t WHERE t.schemaname = r.schemaname
     AND t.relname IN ('onebeat_runs', 'onebeat_schedules', 'onebeat_definitions', 'onebeat_changes'))
    FROM pg_stat_user_tables AS r WHERE relname = 'onebeat_runs' AND schemaname = current_schema()"""
ASKED = "SELECT sum(calls)::bigint FROM pg_stat_statements"


class Place:
    """A server; each ledger is a schema."""

    wakes = True
    counted = "statements as pg_stat_statements counts them, BEGIN and COMMIT among them"

    def __init__(self, place: Path, url: str | None) -> None:
        self._ours: Started | None = None
        if url is None:
            self._ours = Started(place / "postgres", partial(postgres.command, settings=DURABLE))
            url = self._ours.answering(postgres.answers)
        self._url = url
        self._db = psycopg.connect(url, autocommit=True)
        if self._ours is not None:
            for _ in range(LOG_FILES):
                self._db.execute(LOG_FILE_ENDED)
            self._db.execute("CHECKPOINT")
        self._counts = self._made("CREATE EXTENSION IF NOT EXISTS pg_stat_statements") and self._made(ASKED)

    def _made(self, sql: str) -> bool:
        try:
            self._db.execute(sql.encode())
        except psycopg.Error:
            return False
        return True

    def about(self) -> dict[str, object]:
        rows = self._db.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", ([*TOLD],))
        return {"postgres": self._db.info.parameter_status("server_version"), **dict(rows.fetchall())}

    def ledger(self, name: str) -> str:
        return f"{self._url}?schema=bench_{name.replace('-', '_')}"

    def drop(self, url: str) -> None:
        self._db.execute(f'DROP SCHEMA IF EXISTS "{_schema(url)}" CASCADE'.encode())

    def floor(self, url: str) -> "Hands":
        return Hands(connected(url))

    def newest(self, url: str) -> Newest:
        db = connected(url)
        sql = NEWEST.format("%s").encode()
        return lambda seq: db.execute(sql, (seq,)).fetchall()

    analyze = "ANALYZE"

    def run(self, url: str, sql: str) -> None:
        with connected(url) as db:
            db.execute(sql.encode())

    def numbers(self, count: int) -> str:
        return f"generate_series(1, {count}) AS g (n)"

    def state(self, url: str) -> dict[str, object]:
        time.sleep(2)  # what a backend counts is told with some delay
        with connected(url) as db:
            ((size, dead, vacuums, walks),) = db.execute(STATE).fetchall()
        return {"bytes": size, "dead_rows": dead, "autovacuums": vacuums, "walks": walks}

    def asked(self) -> int | None:
        return int(self._db.execute(ASKED).fetchall()[0][0]) if self._counts else None

    def close(self) -> None:
        self._db.close()
        if self._ours is not None:
            self._ours.end()


class Hands:
    """psycopg: prepared statements in a pipeline, an array a column, written as text, which is fastest."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self._db = db
        db.prepare_threshold = 1

    def schedules(self) -> list[tuple[Any, ...]]:
        return self._db.execute(SCHEDULES).fetchall()

    def _all(self, count: int, *statements: tuple[str, list[Any]]) -> None:
        with self._db.pipeline():
            self._db.execute("BEGIN")
            done = [self._db.execute(sql.encode(), args) for sql, args in statements]
            self._db.execute("COMMIT")
        assert all(each.rowcount == count for each in done)

    def settle(self, batch: Sequence[Fire]) -> None:
        cells = list(zip(*(each.run for each in batch), strict=True))
        versions, nexts = [each.version for each in batch], [each.next_at for each in batch]
        runs = [
            _texts(cell) if kind is TEXTS else _numbers(cell) for kind, cell in zip(KINDS, cells, strict=True)
        ]
        marks = [_numbers(cells[1]), _numbers(versions), _numbers(cells[16]), _numbers(nexts)]
        self._all(len(batch), (SETTLED, marks), (FIRED, runs))

    def claim(self, batch: Sequence[tuple[str, int]], at: int, until: int) -> None:
        self._all(len(batch), (CLAIMED, [until, until, at, *_named(batch)]))

    def start(self, batch: Sequence[tuple[str, int]], at: int) -> None:
        self._all(len(batch), (STARTED, [at, *_named(batch)]))

    def finish(self, batch: Sequence[tuple[str, int]], at: int) -> None:
        self._all(len(batch), (FINISHED, [at, *_named(batch)]))

    def close(self) -> None:
        self._db.close()


def connected(url: str) -> psycopg.Connection[Any]:
    """Open a connection to a ledger."""
    settings = {"search_path": _schema(url), **PLANNING}
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return psycopg.connect(url.partition("?")[0], autocommit=True, options=options)


def _schema(url: str) -> str:
    return parse_qs(urlsplit(url).query)["schema"][0]


def _numbers(cells: Sequence[Any]) -> str:
    return "{" + ",".join(["NULL" if cell is None else str(cell) for cell in cells]) + "}"


def _texts(cells: Sequence[Any]) -> str:
    return "{" + ",".join(["NULL" if cell is None else f'"{cell}"' for cell in cells]) + "}"


def _named(batch: Sequence[tuple[str, int]]) -> list[str]:
    names, tokens = zip(*batch, strict=True)
    return [_texts(names), _numbers(tokens)]
