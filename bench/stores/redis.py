"""Redis: a server of our own with what makes it durable switched on, or the one of a URL.

The floor is scripts by hand, with the client of the product, as many items to each as the product gives to
its own. They compare what those compare and write the same keys, and nothing beside them: no number of
changes, no message.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit, urlunsplit

import msgspec
import redis
from tests.servers import redis as servers
from tests.servers.running import Place as Folder

from bench.stores import Fire, Newest
from bench.stores.servers import Started
from onebeat.core.model import RunState
from onebeat.store.redis.opening import erase_ledger
from onebeat.store.redis.store import AT_ONCE

DURABLE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "auto-aof-rewrite-min-size": "1gb",
    "maxmemory-policy": "noeviction",
    "save": "",
}
TOLD = (*DURABLE, "auto-aof-rewrite-percentage", "maxmemory", "io-threads")
ROW = ("id", "name", "number", "queue", "target", "priority", "version")
T = TypeVar("T")

BEGIN = """
local ns, items, call = KEYS[1] .. ':', cmsgpack.unpack(ARGV[1]), redis.call
local sets = {}
local function put(key, score, member)
  local set = sets[key] or {}
  sets[key] = set
  set[#set + 1] = score
  set[#set + 1] = member
end
local function lane_of(queue, target, priority)
  return priority .. ':' .. #queue .. ':' .. queue .. ':' .. target
end
local function text(number)
  return string.format('%.0f', number)
end
"""
END = """
for key, set in pairs(sets) do
  call('ZADD', ns .. key, unpack(set))
end
"""
SETTLED = f"""{BEGIN}
local versions, due = {{}}, {{}}
for index, item in ipairs(items) do
  local row = call('HMGET', ns .. 'schedule:' .. item[2], 'version', 'shard')
  if row[1] ~= item[21] then
    return redis.error_reply('stale')
  end
  versions[index] = text(tonumber(row[1]) + 1)
  due[index] = string.format('%016d:%05d', item[2], row[2])
end
local seq, unfinished = tonumber(call('HGET', ns .. 'meta', 'last_run') or '0'), {{}}
for index, item in ipairs(items) do
  local id, own, name, number, queue, target, priority, state = unpack(item, 1, 8)
  seq = seq + 1
  call('HSET', ns .. 'run:' .. id, 'schedule_id', own, 'schedule', name, 'number', number, 'queue', queue,
    'target', target, 'priority', priority, 'state', state, 'due_at', item[11], 'ready_at', item[12],
    'created_at', item[13], 'occurrence_at', item[14], 'mark_before', item[16], 'mark_after', item[17],
    'count', item[18], 'seq', text(seq))
  call('HSET', ns .. 'schedule:' .. own, 'version', versions[index], 'settled_until', item[17],
    'next_at', item[22])
  call('ZADD', ns .. 'live:' .. own, seq, id)
  local lane = lane_of(queue, target, priority)
  put('due', item[22], due[index])
  put('state:' .. state, seq, id)
  put('ready:' .. lane, item[12], id)
  unfinished[target] = (unfinished[target] or 0) + 1
  sets.lanes = {{'-' .. priority, lane}}
end
call('HSET', ns .. 'meta', 'last_run', text(seq))
for target, number in pairs(unfinished) do
  call('HINCRBY', ns .. 'unfinished', target, number)
end
{END}"""
CLAIMED = f"""{BEGIN}
local at, till, gone, lanes = ARGV[2], ARGV[3], {{}}, {{}}
for index, item in ipairs(items) do
  local run = call('HMGET', ns .. 'run:' .. item[1], 'state', 'seq', 'attempt', 'queue', 'target', 'priority')
  if run[1] ~= 'ready' then
    return redis.error_reply('not ready')
  end
  call('HSET', ns .. 'run:' .. item[1], 'state', 'running', 'token', item[2], 'holder', 'bench',
    'attempt', text(tonumber(run[3] or '0') + 1), 'lease_until', till, 'claimed_at', at)
  put('state:running', run[2], item[1])
  put('watch', till, item[1])
  local lane = lane_of(run[4], run[5], run[6])
  lanes[lane] = lanes[lane] or {{}}
  lanes[lane][#lanes[lane] + 1] = item[1]
  gone[index] = item[1]
end
call('ZREM', ns .. 'state:ready', unpack(gone))
for lane, left in pairs(lanes) do
  call('ZREM', ns .. 'ready:' .. lane, unpack(left))
  if call('EXISTS', ns .. 'ready:' .. lane) == 0 then
    call('ZREM', ns .. 'lanes', lane)
  end
end
call('HSET', ns .. 'meta', 'last_token', items[#items][2])
{END}"""
STARTED = f"""{BEGIN}
for _, item in ipairs(items) do
  if call('HGET', ns .. 'run:' .. item[1], 'token') ~= item[2] then
    return redis.error_reply('not held')
  end
  call('HSET', ns .. 'run:' .. item[1], 'started_at', ARGV[2])
end
"""
FINISHED = f"""{BEGIN}
local gone, unfinished = {{}}, {{}}
for index, item in ipairs(items) do
  local id = item[1]
  local run = call('HMGET', ns .. 'run:' .. id, 'token', 'seq', 'schedule_id', 'target')
  if run[1] ~= item[2] then
    return redis.error_reply('not held')
  end
  call('HSET', ns .. 'run:' .. id, 'state', 'succeeded', 'finished_at', ARGV[2], 'outcome', 'succeeded')
  call('HDEL', ns .. 'run:' .. id, 'lease_until')
  call('ZREM', ns .. 'live:' .. run[3], id)
  call('ZADD', ns .. 'ended:' .. run[3], run[2], id)
  put('state:succeeded', run[2], id)
  unfinished[run[4]] = (unfinished[run[4]] or 0) + 1
  gone[index] = id
end
call('ZREM', ns .. 'state:running', unpack(gone))
call('ZREM', ns .. 'watch', unpack(gone))
for target, number in pairs(unfinished) do
  if call('HINCRBY', ns .. 'unfinished', target, -number) == 0 then
    call('HDEL', ns .. 'unfinished', target)
  end
end
{END}"""

# The runs after a number, in whatever state they are. Nobody is answered before what stands in the log is on
# the disk, so what is seen here is durable.
NEWEST = f"""
local ns, seq, call, found = KEYS[1] .. ':', ARGV[1], redis.call, {{}}
if tonumber(call('HGET', ns .. 'meta', 'last_run') or '0') > tonumber(seq) then
  for _, state in ipairs({{{", ".join(f"'{state.value}'" for state in RunState)}}}) do
    local runs = call('ZRANGEBYSCORE', ns .. 'state:' .. state, '(' .. seq, '+inf', 'WITHSCORES')
    for index = 1, #runs, 2 do
      local cells = call('HMGET', ns .. 'run:' .. runs[index], 'due_at', 'created_at')
      found[#found + 1] = {{runs[index + 1], cells[1], cells[2]}}
    end
  end
end
return found
"""


class Place:
    """A server; each ledger is a namespace."""

    wakes = True
    counted = (
        "requests as the server reads them (INFO stats, total_reads_processed): a command is one, and so is "
        "a script, whatever it calls; one of more than 16 kB is counted several times"
    )

    def __init__(self, place: Path, url: str | None) -> None:
        self._ours: Started | None = None
        if url is None:
            self._ours = Started(place / "redis", _command)
            url = self._ours.answering(_answers)
        self._url = url
        self._db = _client(url)

    def about(self) -> dict[str, object]:
        told: dict[str, object] = {"redis": self._db.info("server")["redis_version"]}
        for name in TOLD:
            told |= self._db.config_get(name)
        return told

    def ledger(self, name: str) -> str:
        return f"{self._url.partition('?')[0]}?namespace=bench-{name}"

    def drop(self, url: str) -> None:
        erase_ledger(url)

    def floor(self, url: str) -> "Hands":
        return Hands(url)

    def newest(self, url: str) -> Newest:
        seen, namespace = _client(url).register_script(NEWEST), _namespace(url)

        def newest(seq: int) -> list[tuple[int, int, int]]:
            found = seen(keys=[namespace], args=[seq])
            return sorted((int(number), int(due), int(created)) for number, due, created in found)

        return newest

    analyze = ""

    def run(self, url: str, sql: str) -> None:
        raise SystemExit("this bench fills tables with SQL, and Redis has neither")

    def numbers(self, count: int) -> str:
        return ""

    def state(self, url: str) -> dict[str, object]:
        return {"bytes": int(self._db.info("memory")["used_memory"])}

    def asked(self) -> int | None:
        return int(self._db.info("stats")["total_reads_processed"])

    def close(self) -> None:
        self._db.close()
        if self._ours is not None:
            self._ours.end()


class Hands:
    """redis-py, scripts by their hash; what a script is given is packed, and texts where it is written."""

    def __init__(self, url: str) -> None:
        self._db = _client(url)
        self._namespace = _namespace(url)
        scripts = (SETTLED, CLAIMED, STARTED, FINISHED)
        self._settle, self._claim, self._start, self._finish = map(self._db.register_script, scripts)

    def schedules(self) -> list[tuple[Any, ...]]:
        asked = self._db.pipeline(transaction=False)
        for row in self._db.zrange(f"{self._namespace}:rows", 0, -1):
            asked.hmget(f"{self._namespace}:schedule:{row}", ROW)
        return [
            (int(own), name, int(number), queue, target, int(priority or 0), int(version))
            for own, name, number, queue, target, priority, version in asked.execute()
        ]

    def _all(self, script: Callable[..., None], items: Sequence[Sequence[Any]], *at: int) -> None:
        for part in _parts(items):
            script(keys=[self._namespace], args=[msgspec.msgpack.encode(part), *at])

    def settle(self, batch: Sequence[Fire]) -> None:
        self._all(
            self._settle,
            [
                [None if cell is None else str(cell) for cell in (*each.run[:20], each.version, each.next_at)]
                for each in batch
            ],
        )

    def claim(self, batch: Sequence[tuple[str, int]], at: int, until: int) -> None:
        self._all(self._claim, _named(batch), at, until)

    def start(self, batch: Sequence[tuple[str, int]], at: int) -> None:
        self._all(self._start, _named(batch), at)

    def finish(self, batch: Sequence[tuple[str, int]], at: int) -> None:
        self._all(self._finish, _named(batch), at)

    def close(self) -> None:
        self._db.close()


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for begin in range(0, len(items), AT_ONCE):
        yield items[begin : begin + AT_ONCE]


def _named(batch: Sequence[tuple[str, int]]) -> list[tuple[str, str]]:
    return [(name, str(token)) for name, token in batch]


def _client(url: str) -> Any:
    return redis.Redis.from_url(urlunsplit(urlsplit(url)._replace(query="")), decode_responses=True)


def _namespace(url: str) -> str:
    return "{" + parse_qs(urlsplit(url).query)["namespace"][0] + "}"


def _command(place: Path) -> tuple[list[str], str]:
    port = Folder(place).free_port()
    settings = [word for name, value in DURABLE.items() for word in (f"--{name}", value)]
    words = [servers.binary(place.parent), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(place)]
    return [*words, *settings], f"redis://127.0.0.1:{port}/0"


def _answers(url: str) -> bool:
    try:
        return bool(_client(url).ping())
    except redis.ConnectionError:
        return False
