"""Two servers of one kind: a primary, and a replica that copies it over a wire that a test can cut.

They are a test's own, on ports and folders of their own, and keep what they acknowledged when their process
is killed. `fail_over` kills the primary without a word, and makes the replica what nodes are led to.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from chaos.wire import Wire
from tests.servers import mariadb, redis
from tests.servers.running import SERVERS, START_S, Place

NAP_S = 0.02
KEPT = {
    "postgres": ["-c", "synchronous_commit=on", "-c", "wal_level=replica", "-c", "max_connections=100"],
    "mariadb": [
        "--innodb-flush-log-at-trx-commit=2",
        "--log-bin=binlog",
        "--binlog-format=ROW",
        "--sync-binlog=0",
        "--gtid-strict-mode=0",
    ],
}
"""What makes a server outlive the death of its process, though not that of its machine."""

DONE = "SELECT id FROM beats.onebeat_runs WHERE state = 'succeeded'"


def until(there: Callable[[], object]) -> None:
    """Ask until the answer is yes: what goes on within a server tells nobody."""
    nap = threading.Event()
    for _ in range(int(START_S / NAP_S)):
        if there():
            return
        nap.wait(NAP_S)
    raise AssertionError("it never came to that")


class Own:
    """A PostgreSQL or MariaDB of a test's own."""

    def __init__(self, kind: str, command: list[str], place: Path, url: str) -> None:
        self.kind = kind
        self.url = url
        self.place = place
        self._command = command
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def start(self) -> None:
        """Start it, on the data that is there, and wait until it lets us in."""
        server = importlib.import_module(f"tests.servers.{self.kind}")

        def let_in() -> bool:
            if self._guard is None or self._guard.poll() is not None:
                # What is left of one that was killed may be in its way: then it ends, and is tried again.
                self._guard = Place(self.place).guarded(os.getpid(), self._command)
            return bool(server.answers(self.url))

        until(let_in)

    def kill(self) -> None:
        """Kill it without a word."""
        assert self._guard is not None
        children = Path(f"/proc/{self._guard.pid}/task/{self._guard.pid}/children").read_text().split()
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)
        self._guard.wait()

    def stop(self) -> None:
        """End it, and remove what it left."""
        if self._guard is not None and self._guard.poll() is None:
            self._guard.terminate()
            self._guard.wait()
        shutil.rmtree(self.place, ignore_errors=True)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement as a person would, outside of any transaction."""
        if self.kind == "postgres":
            import psycopg

            with psycopg.connect(self.url, autocommit=True) as db:
                cursor = db.execute(sql.encode())
                return cursor.fetchall() if cursor.description else []
        with mariadb.connected(self.url) as db, db.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())


def own(kind: str, *more: str) -> Own:
    """Make a server of a test's own; it is not started yet."""
    assert SERVERS.folder is not None
    place = Path(tempfile.mkdtemp(prefix=f"own-{kind}-", dir=SERVERS.folder))
    place.chmod(0o755)
    command, url = importlib.import_module(f"tests.servers.{kind}").command(place)
    return Own(kind, [*command, *KEPT[kind], *more], place, url)


class Pair:
    """A primary and its replica. ``wire`` lies between them; ``nodes`` leads to whichever is the primary."""

    kind = ""

    def __init__(self, *, delay_s: float = 0.0, in_step: bool = False) -> None:
        self.in_step = in_step  # whether a commit is acknowledged only when the replica has it
        self.left = ExitStack()
        try:
            self.begin(delay_s)
            self.nodes = self.left.enter_context(closing(Wire(self.primary_port)))
        except BaseException:
            self.close()
            raise

    primary: Own | redis.Own
    replica: Own | redis.Own
    primary_port: int
    replica_port: int
    wire: Wire

    def begin(self, delay_s: float) -> None:
        raise NotImplementedError

    def own(self, kind: str, *more: str) -> Own:
        """Make a server that ends with this pair."""
        server = own(kind, *more)
        self.left.callback(server.stop)
        return server

    def url(self, port: int) -> str:
        """Return the URL of the ledger on the server of a port."""
        raise NotImplementedError

    def url_of_both(self) -> str:
        """Return the URL by which nodes follow the primary by themselves."""
        return self.url(self.nodes.port)

    def catch_up(self) -> None:
        """Wait until the replica has all that the primary has now."""
        raise NotImplementedError

    def done(self) -> set[str]:
        """Return the runs that the replica knows as succeeded."""
        raise NotImplementedError

    def newest(self) -> int:
        """Return the newest end of a run that the replica knows, in whole microseconds since 1970."""
        ((at,),) = self.replica.ask("SELECT max(finished_at) FROM beats.onebeat_runs")
        return int(at)

    def kill(self) -> None:
        """Kill the primary without a word, with what is on its way to the replica."""
        self.wire.cut()
        self.primary.kill()

    def promote(self) -> None:
        """Make the replica a primary. Nodes are not led there yet."""
        raise NotImplementedError

    def fail_over(self) -> None:
        """Kill the primary, promote the replica, and lead nodes there."""
        self.kill()
        self.promote()
        self.nodes.cut()
        self.nodes.mend(self.replica_port)

    def restart(self) -> None:
        """Kill the primary without a word, and start it again on what it left."""
        self.primary.kill()
        self.primary.start()

    def close(self) -> None:
        """Leave nothing behind."""
        self.left.close()


class PostgresPair(Pair):
    """Streaming replication."""

    kind = "postgres"

    def begin(self, delay_s: float) -> None:
        self.primary = self.own("postgres")
        self.primary.start()
        self.primary_port = self.primary.port
        self.wire = self.left.enter_context(closing(Wire(self.primary_port, delay_s=delay_s)))
        self.replica = self.own("postgres", "-c", "cluster_name=standby", "-c", "wal_receiver_timeout=60s")
        self.replica_port = self.replica.port
        here = Place(self.replica.place)
        data = self.replica.place / "data"
        shutil.rmtree(data)
        copy = [str(Path(self.primary._command[0]).with_name("pg_basebackup")), "-D", str(data), "-R"]
        source = ["-h", "127.0.0.1", "-p", str(self.wire.port), "-U", "onebeat", "-X", "stream", "-c", "fast"]
        here.run([*copy, *source])
        self.replica.start()
        until(lambda: self.primary.ask("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"))
        if self.in_step:
            self.primary.ask("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            self.primary.ask("SELECT pg_reload_conf()")
            until(lambda: self.primary.ask("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))

    def url(self, port: int) -> str:
        return f"postgresql://onebeat@127.0.0.1:{port}/postgres?schema=beats"

    def url_of_both(self) -> str:
        """Return the URL that names both, for whichever takes writes."""
        places = ",".join(f"127.0.0.1:{port}" for port in (self.primary_port, self.replica_port))
        return f"postgresql://onebeat@{places}/postgres?schema=beats&target_session_attrs=read-write"

    def catch_up(self) -> None:
        ((mark,),) = self.primary.ask("SELECT pg_current_wal_lsn()")
        until(lambda: self.replica.ask(f"SELECT 1 WHERE pg_last_wal_replay_lsn() >= '{mark}'::pg_lsn"))

    def done(self) -> set[str]:
        return {run_id for (run_id,) in self.replica.ask(DONE)}

    def promote(self) -> None:
        self.replica.ask("SELECT pg_promote(true)")


class MariadbPair(Pair):
    """Row-based replication; in step, it is the semi-synchronous one."""

    kind = "mariadb"

    def begin(self, delay_s: float) -> None:
        waits = ("--rpl-semi-sync-master-wait-point=AFTER_SYNC", "--rpl-semi-sync-master-timeout=600000")
        master = ("--rpl-semi-sync-master-enabled=1", *waits) if self.in_step else ()
        slave = ("--rpl-semi-sync-slave-enabled=1",) if self.in_step else ()
        self.primary = self.own("mariadb", "--server-id=1", *master)
        self.replica = self.own("mariadb", "--server-id=2", "--relay-log=relay", *slave)
        self.primary.start()
        self.replica.start()
        self.primary_port, self.replica_port = self.primary.port, self.replica.port
        self.wire = self.left.enter_context(closing(Wire(self.primary_port, delay_s=delay_s)))
        ((name, position, *_),) = self.primary.ask("SHOW MASTER STATUS")
        self.replica.ask(
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={self.wire.port}, MASTER_USER='root', "
            f"MASTER_LOG_FILE='{name}', MASTER_LOG_POS={position}, MASTER_CONNECT_RETRY=1"
        )
        self.replica.ask("START SLAVE")
        mariadb.make(self.primary.url, "beats")
        until(lambda: self.replica.ask("SHOW DATABASES LIKE 'beats'"))

    def url(self, port: int) -> str:
        return f"mysql://root@127.0.0.1:{port}/beats"

    def catch_up(self) -> None:
        ((name, position, *_),) = self.primary.ask("SHOW MASTER STATUS")
        ((told,),) = self.replica.ask(f"SELECT MASTER_POS_WAIT('{name}', {position}, {START_S})")
        assert told is not None, "it copies nothing"
        assert int(told) >= 0, "it never came to that"

    def done(self) -> set[str]:
        return {run_id for (run_id,) in self.replica.ask(DONE)}

    def promote(self) -> None:
        self.replica.ask("STOP SLAVE IO_THREAD")
        until(lambda: "has read all relay log" in str(self.replica.ask("SHOW SLAVE STATUS")))
        self.replica.ask("STOP SLAVE")
        self.replica.ask("RESET SLAVE ALL")


class RedisPair(Pair):
    """A replica, which Redis always tells later."""

    kind = "redis"

    def begin(self, delay_s: float) -> None:
        assert not self.in_step, "no setting makes a Redis replica synchronous"
        self.primary = redis.Own()
        self.left.callback(self.primary.stop)
        self.primary_port = self.primary.port
        self.wire = self.left.enter_context(closing(Wire(self.primary_port, delay_s=delay_s)))
        self.replica = redis.Own(replicaof=f"127.0.0.1 {self.wire.port}", repl_diskless_sync_delay="0")
        self.left.callback(self.replica.stop)
        self.replica_port = self.replica.port
        until(lambda: "master_link_status:up" in self.replica.ask("INFO", "replication"))

    def url(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}/0"

    def catch_up(self) -> None:
        def offset(server: redis.Own) -> int:
            told = server.ask("INFO", "replication").splitlines()
            return next(
                int(line.partition(":")[2]) for line in told if line.startswith("master_repl_offset:")
            )

        mark = offset(self.primary)
        until(lambda: offset(self.replica) >= mark)

    def done(self) -> set[str]:
        return set(self.replica.ask("ZRANGE", "{onebeat}:state:succeeded", "0", "-1"))

    def newest(self) -> int:
        ends = [
            self.replica.ask("HGET", f"{{onebeat}}:run:{run_id}", "finished_at") for run_id in self.done()
        ]
        return max(map(int, ends))

    def promote(self) -> None:
        self.replica.ask("REPLICAOF", "NO", "ONE")


PAIRS: dict[str, type[Pair]] = {pair.kind: pair for pair in (PostgresPair, MariadbPair, RedisPair)}
