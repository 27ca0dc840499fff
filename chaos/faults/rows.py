"""What is done to rows and locks behind everybody's back. What vanishes may vanish; the ledger stays.

Who is there, for how long a lease goes, which script a server knows, and who holds a lock: all of that may
vanish at any moment, and nothing that was promised depends on it. Runs, schedules and marks are the ledger
itself, and no fault deletes them.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from random import Random

from chaos.faults.protocol import SERVERS, STORES, Nobody, Usual
from chaos.faults.servers import end_connection
from chaos.faults.shapes import AgainByHand, shell_of
from chaos.hand import Shell
from chaos.place import Place

SET_BACK_US = 3_600_000_000


class PresenceLost(Usual):
    """What nodes have said of themselves is deleted: all, some, or half of what belongs together."""

    kind = "presence of nodes deleted"
    stores = STORES
    lasts_s = (0.0, 1.0)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        with closing(Shell(place)) as shell:
            gone = self._forget(shell, namespace(place), rng)
        if not gone:
            raise Nobody
        return f"{gone} {'key' if place.kind == 'redis' else 'row'}s"

    def _forget(self, shell: Shell, keys: str, rng: Random) -> int:
        chance = rng.choice((0.5, 1.0))
        if shell.kind != "redis":
            names = [name for (name,) in shell.ask("SELECT id FROM onebeat_nodes") if rng.random() < chance]
            for name in names:
                shell.ask(f"DELETE FROM onebeat_nodes WHERE id = '{name}'")
            return len(names)
        gone = 0
        for name in shell.ask("ZRANGE", f"{keys}nodes", "0", "-1"):
            if rng.random() < chance:
                gone += shell.ask("DEL", f"{keys}node:{name}")
            if rng.random() < chance:
                gone += shell.ask("ZREM", f"{keys}nodes", name)
        return gone


class LeasesLapsed(Usual):
    """Leases of running runs are set back by an hour, while their holders are well and at work."""

    kind = "leases set to lapsed"
    stores = STORES
    lasts_s = (0.0, 1.0)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        part = rng.choice((1, 2))
        with closing(Shell(place)) as shell:
            if place.kind == "redis":
                shell.ask("EVAL", LAPSE, "0", namespace(place), str(part), str(SET_BACK_US))
            else:
                shell.ask(
                    f"UPDATE onebeat_runs SET lease_until = lease_until - {SET_BACK_US}, "
                    f"watch_at = watch_at - {SET_BACK_US} "
                    f"WHERE state = 'running' AND lease_until IS NOT NULL AND seq % {part} = 0"
                )
        return "all of them" if part == 1 else "every other"


LAPSE = """
local ns, part, back = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ids = redis.call('ZRANGE', ns .. 'state:running', 0, -1)
for index = 1, #ids, part do
  local key = ns .. 'run:' .. ids[index]
  local till = redis.call('HGET', key, 'lease_until')
  if till then
    till = string.format('%.0f', tonumber(till) - back)
    redis.call('HSET', key, 'lease_until', till)
    redis.call('ZADD', ns .. 'watch', till, ids[index])
  end
end
return #ids
"""


class LocksDropped(AgainByHand):
    """Whoever holds a lock of the server is thrown out, again and again: locks of rows, and named ones."""

    kind = "holders of locks killed"
    stores = frozenset({"postgres", "mariadb"})
    lasts_s = (1.0, 4.0)
    pauses_s = (0.02, 0.2)
    words = "whoever holds one, each {ms:.0f} ms"

    def more_s(self, shell: Shell) -> float:
        """InnoDB shows a picture of its transactions that is made anew only when 0.1 s unread."""
        return 0.12 if shell.kind == "mariadb" else 0.0

    def act(self, shell: Shell) -> int:
        return drop_locks(shell)


HOLDERS = {
    "postgres": "SELECT DISTINCT l.pid FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) "
    "WHERE l.granted AND l.locktype IN ('advisory', 'transactionid', 'tuple') "
    "AND a.application_name LIKE 'onebeat%'",
    "mariadb": "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx "
    "WHERE trx_mysql_thread_id NOT IN (0, connection_id()) AND trx_rows_locked > 0 "
    "UNION SELECT is_used_lock(concat('onebeat.', database()))",
}


def drop_locks(shell: Shell) -> int:
    """End whoever of the nodes holds a lock just now; return how many did."""
    holders = [number for (number,) in shell.ask(HOLDERS[shell.kind]) if number is not None]
    for number in holders:
        end_connection(shell, number)
    return len(holders)


class ScriptsForgotten(AgainByHand):
    """The server forgets every script that it was sent."""

    kind = "scripts flushed"
    stores = frozenset({"redis"})
    lasts_s = (0.5, 2.0)
    pauses_s = (0.05, 0.5)
    words = "all of them, each {s:.2f} s"

    def act(self, shell: Shell) -> object:
        return shell.ask("SCRIPT", "FLUSH")


class WakingLost(AgainByHand):
    """The lines by which nodes are woken are closed; what is said meanwhile is heard by nobody."""

    kind = "wake-up lines closed"
    stores = SERVERS - {"mariadb"}
    lasts_s = (0.5, 3.0)
    pauses_s = (0.1, 0.5)
    words = "everybody's, each {s:.1f} s"

    def act(self, shell: Shell) -> object:
        if shell.kind == "redis":
            return shell.ask("CLIENT", "KILL", "TYPE", "pubsub")
        return shell.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LISTENS}")


LISTENS = "application_name LIKE 'onebeat%' AND query ~ '^(LISTEN|NOTIFY) '"
"""Of a connection on PostgreSQL: by the last that it said. A line that others are woken by says so itself."""


class RowsHeld(Usual):
    """A person's transaction holds rows of some schedules for seconds, and is rolled back."""

    kind = "rows held by a long transaction"
    stores = frozenset({"postgres", "mariadb"})
    lasts_s = (1.0, 6.0)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        shell = shell_of(place, left)
        part = rng.randint(2, 8)
        shell.ask("START TRANSACTION")
        held = shell.ask(
            f"SELECT id FROM onebeat_schedules WHERE id % {part} = 0 ORDER BY id FOR UPDATE SKIP LOCKED"
        )
        if not held:
            raise Nobody
        return f"{len(held)} schedules"


class FileLocked(Usual):
    """Another program has the file to itself for writing, and dies while it has."""

    kind = "write lock held by another program"
    stores = frozenset({"sqlite"})
    lasts_s = (1.0, 4.0)
    wide = True

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        shell = shell_of(place, left)
        shell.ask("BEGIN IMMEDIATE")
        shell.ask("UPDATE onebeat_schedules SET version = version")  # pages that its death must undo
        return "the file"


class SnapshotKept(Usual):
    """Another program reads, and goes on looking at the file as it was: nothing it has seen may be reused."""

    kind = "snapshot kept by a reader"
    stores = frozenset({"sqlite"})
    lasts_s = (3.0, 12.0)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        shell = shell_of(place, left)
        shell.ask("BEGIN")
        ((runs,),) = shell.ask("SELECT count(*) FROM onebeat_runs")
        return f"the file, as it was with {runs} runs"


def namespace(place: Place) -> str:
    """Return what the keys of a ledger on Redis begin with."""
    from onebeat.store.redis.address import address_of

    return f"{{{address_of(place.url).namespace}}}:" if place.kind == "redis" else ""
