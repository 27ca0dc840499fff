"""SQLite: a file, as durable as it can be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from bench.stores import NEWEST, RUN_CELLS, SCHEDULES, Fire, Newest

SETTLED = """UPDATE onebeat_schedules SET version = version + 1, settled_until = ?, next_at = ?
    WHERE id = ? AND version = ?"""
FIRED = f"INSERT INTO onebeat_runs ({RUN_CELLS}) VALUES ({','.join('?' * 21)})"
CLAIMED = """UPDATE onebeat_runs SET state = 'running', watch_at = ?, attempt = attempt + 1, token = ?,
    holder = ?, lease_until = ?, claimed_at = ? WHERE id = ? AND state = 'ready'"""
STARTED = "UPDATE onebeat_runs SET started_at = ? WHERE id = ? AND token = ?"
FINISHED = """UPDATE onebeat_runs SET state = 'succeeded', slot = NULL, watch_at = NULL, lease_until = NULL,
    finished_at = ?, outcome = 'succeeded' WHERE id = ? AND token = ?"""


class Place:
    """A folder of SQLite files."""

    wakes = False
    counted = "nothing: there is no server"

    def __init__(self, place: Path, url: str | None) -> None:
        if url is not None:
            raise SystemExit("SQLite has no server: say --place instead of --url")
        self._place = place.resolve()

    def about(self) -> dict[str, object]:
        return {"sqlite": apsw.sqlite_lib_version(), "synchronous": "full", "journal": "wal"}

    def ledger(self, name: str) -> str:
        return f"sqlite:///{self._place / name}.db"

    def drop(self, url: str) -> None:
        path = _path(url)
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink()

    def floor(self, url: str) -> "Hands":
        return Hands(_path(url))

    def newest(self, url: str) -> Newest:
        db = apsw.Connection(str(_path(url)), flags=apsw.SQLITE_OPEN_READONLY)
        db.set_busy_timeout(10_000)
        last = -1

        def newest(seq: int) -> list[tuple[int, int, int]]:
            nonlocal last
            before, (last,) = last, db.execute("PRAGMA data_version").fetchall()[0]
            return [] if last == before else db.execute(NEWEST.format("?"), (seq,)).fetchall()

        return newest

    def asked(self) -> int | None:
        return None

    analyze = "ANALYZE"

    def run(self, url: str, sql: str) -> None:
        db = apsw.Connection(str(_path(url)))
        db.execute(sql)
        db.close()

    def numbers(self, count: int) -> str:
        more = f"SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}"
        return f"(WITH RECURSIVE c (n) AS ({more}) SELECT n FROM c) AS g"

    def state(self, url: str) -> dict[str, object]:
        return {"bytes": _path(url).stat().st_size}

    def close(self) -> None:
        pass


class Hands:
    """apsw, prepared statements, the product's own pragmas."""

    def __init__(self, path: Path) -> None:
        self._db = apsw.Connection(str(path))
        for pragma, value in (("synchronous", "full"), ("mmap_size", 0), ("cache_size", -4096)):
            self._db.pragma(pragma, value)
        self._db.wal_autocheckpoint(4000)

    def schedules(self) -> list[tuple[Any, ...]]:
        return self._db.execute(SCHEDULES).fetchall()

    def _many(self, *statements: tuple[str, list[tuple[Any, ...]]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for sql, rows in statements:
            self._db.executemany(sql, rows)
        self._db.execute("COMMIT")

    def settle(self, batch: Sequence[Fire]) -> None:
        marks = [(each.run[16], each.next_at, each.run[1], each.version) for each in batch]
        self._many((SETTLED, marks), (FIRED, [each.run for each in batch]))

    def claim(self, batch: Sequence[tuple[str, int]], at: int, until: int) -> None:
        self._many((CLAIMED, [(until, token, "bench", until, at, name) for name, token in batch]))

    def start(self, batch: Sequence[tuple[str, int]], at: int) -> None:
        self._many((STARTED, [(at, *each) for each in batch]))

    def finish(self, batch: Sequence[tuple[str, int]], at: int) -> None:
        self._many((FINISHED, [(at, *each) for each in batch]))

    def close(self) -> None:
        self._db.close()


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))
