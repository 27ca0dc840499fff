"""What is Redis's own: what is refused, what a dead server or a lost reply leaves, wake-ups, keys."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.servers import redis
from tests.store.redis_place import by_hand

from onebeat.core.errors import InvalidInput, SchemaMismatch, StoreUnavailable, StoreUnsafe
from onebeat.core.messages import Answer
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store
from onebeat.store.redis import promise
from onebeat.store.redis.address import address_of
from onebeat.store.redis.opening import open_on_clock
from onebeat.store.redis.store import RedisStore
from onebeat.testing.clock import NOON, VirtualClock
from onebeat.testing.conformance_stage import MINUTE, Book

pytestmark = pytest.mark.server("redis")
TOP = Path(__file__).resolve().parents[2]
PATIENCE = timedelta(seconds=60)


@pytest.fixture
def own() -> Iterator[redis.Own]:
    """A server of the test's own, to be killed and misused."""
    own = redis.Own()
    yield own
    own.stop()


# --- what is refused, and what to set -------------------------------------------------------------------


def open_on(own: redis.Own, options: str = "") -> RedisStore:
    store = open_store(f"{own.url}{options}", SystemClock())
    assert isinstance(store, RedisStore)
    return store


def set_on(own: redis.Own, *settings: str) -> None:
    with socket.create_connection(("127.0.0.1", own.port)) as line:
        line.sendall((" ".join(settings) + "\r\n").encode())
        assert line.recv(1000).startswith(b"+OK")


def test_a_server_that_evicts_is_refused_whoever_states_what(own: redis.Own) -> None:
    set_on(own, "CONFIG SET maxmemory-policy allkeys-lru")

    for options in ("", "?durable=assumed"):
        with pytest.raises(StoreUnsafe, match="set maxmemory-policy noeviction"):
            open_on(own, options)


def test_a_server_that_evicts_only_what_expires_is_taken(own: redis.Own) -> None:
    set_on(own, "CONFIG SET maxmemory-policy volatile-ttl")

    open_on(own).close()


def test_a_server_without_a_log_is_refused_unless_the_operator_states_it(own: redis.Own) -> None:
    set_on(own, "CONFIG SET appendonly no")

    with pytest.raises(StoreUnsafe, match="set appendonly yes and appendfsync always"):
        open_on(own)
    store = open_on(own, "?durable=assumed")
    assert "stated by the operator" in store.facts()["durability"]
    store.close()


@pytest.mark.parametrize(
    ("fsync", "word"), [("always", "survives"), ("everysec", "last second"), ("no", "kernel")]
)
def test_the_facts_say_what_a_crash_may_lose(fsync: str, word: str, own: redis.Own) -> None:
    set_on(own, f"CONFIG SET appendfsync {fsync}")

    store = open_on(own)

    assert f"appendfsync {fsync}" in store.facts()["durability"]
    assert word in store.facts()["verdict"]
    store.close()


def test_settings_that_may_not_be_read_are_said_to_be_unknown(own: redis.Own) -> None:
    set_on(own, "ACL SETUSER shy on >pass ~* &* +@all -config")

    store = open_store(f"redis://shy:pass@127.0.0.1:{own.port}/0", SystemClock())

    assert "appendfsync unknown" in store.facts()["durability"]
    store.close()


def test_a_server_that_says_nothing_of_itself_is_refused_unless_the_operator_states_it(
    own: redis.Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promise, "_info", lambda _: {"redis_version": "7.2.4"})

    with pytest.raises(StoreUnsafe, match="durable=assumed"):
        open_on(own)
    open_on(own, "?durable=assumed").close()


@pytest.mark.parametrize("version", ["6.0.16", "5.0.3", ""])
def test_a_server_that_is_too_old_is_refused(
    version: str, own: redis.Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promise, "_info", lambda _: {"redis_version": version})

    with pytest.raises(StoreUnsafe, match=r"6\.2 or later"):
        open_on(own, "?durable=assumed")


def test_a_replica_is_refused(own: redis.Own) -> None:
    set_on(own, "REPLICAOF 127.0.0.1 1")

    with pytest.raises(StoreUnsafe, match="is a replica"):
        open_on(own)


def test_a_cluster_is_refused() -> None:
    own = redis.Own(cluster_enabled="yes")
    try:
        with pytest.raises(StoreUnsafe, match="cluster"):
            open_on(own)
    finally:
        own.stop()


def test_a_server_that_is_not_there_is_unavailable(own: redis.Own) -> None:
    own.kill()

    with pytest.raises(StoreUnavailable, match="try again"):
        open_on(own)


def test_a_newer_ledger_is_refused_and_left_as_it_is(own: redis.Own) -> None:
    set_on(own, "CONFIG SET appendfsync no")
    store = open_on(own)
    by_hand(store, "HSET", "{onebeat}:meta", "format", "99")

    with pytest.raises(SchemaMismatch, match="upgrade this node"):
        open_on(own)

    assert by_hand(store, "HGET", "{onebeat}:meta", "format") == "99"
    store.close()


def test_no_ledger_is_begun_by_who_must_not(own: redis.Own) -> None:
    with pytest.raises(SchemaMismatch, match="holds no ledger"):
        open_store(own.url, SystemClock(), migrate=False)


def test_without_the_library_the_error_names_the_extra() -> None:
    script = """
import sys
sys.modules["redis"] = None
from onebeat.core.errors import MissingExtra
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store
try:
    open_store("redis://localhost", SystemClock())
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "pip install 'onebeat[redis]'" in done.stdout


# --- what a URL says ------------------------------------------------------------------------------------


def test_a_url_says_where_and_what() -> None:
    plain = address_of("redis://example.org")
    full = address_of("rediss://me:p%40ss@example.org:7000/3?namespace=shop&replicas=2&durable=assumed")
    sentinel = address_of("redis+sentinel://:pw@one:1,two/mymaster/4?sentinel_password=x")

    assert (plain.hosts, plain.db, plain.namespace, plain.tls) == (
        (("example.org", 6379),),
        0,
        "onebeat",
        False,
    )
    assert (full.username, full.password, full.tls, full.db) == ("me", "p@ss", True, 3)
    assert (full.namespace, full.replicas, full.durable) == ("shop", 2, True)
    assert sentinel.hosts == (("one", 1), ("two", 26379))
    assert (sentinel.service, sentinel.db, sentinel.password) == ("mymaster", 4, "pw")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis:///0", "names no server"),
        ("redis://h:port/0", "names no server"),
        ("redis://a,b/0", "names no server"),
        ("redis://h/zero", "names no database"),
        ("redis://h/0/1", "names no database"),
        ("redis+sentinel://h:1", "names no master"),
        ("redis://h/0?namespace=A%20B", "namespace"),
        ("redis://h/0?namspace=a", "did you mean 'namespace'"),
        ("redis://h/0?durable=yes", "durable=assumed"),
        ("redis://h/0?replicas=many", "replicas"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        address_of(url)


def test_no_message_shows_a_password() -> None:
    with pytest.raises(InvalidInput) as caught:
        address_of("redis://me:secret@h/zero")

    assert "secret" not in str(caught.value)
    assert "secret" not in address_of("redis://me:secret@h").place


# --- what dies ------------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_a_kill_and_the_store_connects_again(own: redis.Own) -> None:
    clock = VirtualClock(NOON)
    book = Book(open_on_clock(own.url, clock), clock)
    book.create()
    run = book.running()
    before = book.picture()

    own.kill()
    with pytest.raises(StoreUnavailable):
        book.row()
    own.start()

    assert book.picture() == before
    assert book.finish(run).answer is Answer.ACCEPTED
    book.store.close()


def test_a_call_waits_for_a_server_that_is_just_coming_back(own: redis.Own) -> None:
    clock = VirtualClock(NOON)
    book = Book(open_on_clock(own.url, clock), clock)
    row = book.create()
    book.store.close()
    own.kill()
    begun, seen = threading.Event(), []

    def reader() -> None:
        begun.set()
        again = Book(open_on_clock(own.url, clock), clock)  # tries until it is there
        seen.append(again.row())
        again.store.close()

    thread = threading.Thread(target=reader)
    thread.start()
    begun.wait()
    own.start()
    thread.join()

    assert seen == [row]


def test_a_ledger_that_was_flushed_underneath_is_not_written_to(own: redis.Own) -> None:
    clock = VirtualClock(NOON)
    store = open_on_clock(own.url, clock)
    book = Book(store, clock)
    edit = book.creation()
    by_hand(store, "FLUSHALL")

    with pytest.raises(StoreUnavailable, match="not there any more"):
        book.put(edit)

    assert by_hand(store, "DBSIZE") == 0
    store.close()


def test_a_server_that_is_out_of_memory_writes_nothing_and_goes_on_later(own: redis.Own) -> None:
    clock = VirtualClock(NOON)
    store = open_on_clock(own.url, clock)
    book = Book(store, clock)
    row = book.create()
    at = book.clock.advance(MINUTE)
    decision = book.decision(row, book.fired(row, at))
    before = book.picture()
    by_hand(store, "CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(StoreUnavailable, match="takes no writes for now"):
        book.settle(decision)

    by_hand(store, "CONFIG", "SET", "maxmemory", "0")
    assert book.picture() == before
    assert book.settle(decision) == (True,)
    store.close()


# --- other ways to a server -----------------------------------------------------------------------------


def test_a_server_is_reached_by_tls_and_only_with_its_certificate() -> None:
    own = redis.Encrypted()
    try:
        clock = VirtualClock(NOON)
        book = Book(open_on_clock(own.url, clock), clock)

        assert book.create().version == 1
        with pytest.raises(StoreUnavailable, match="certificate"):
            open_store(own.url.partition("?")[0], SystemClock())
        book.store.close()
    finally:
        own.stop()


def test_a_node_whose_key_was_deleted_is_not_there_and_hides_nothing(own: redis.Own) -> None:
    clock = VirtualClock(NOON)
    book = Book(open_on_clock(own.url, clock), clock)
    book.create("report")
    run = book.request("report", "k")
    book.store.announce(book.node("half-deleted", targets=()))
    book.store.announce(book.node("whole", targets=()))
    by_hand(book.store, "DEL", "{onebeat}:node:half-deleted")

    assert [node.id for node in book.store.nodes()] == ["whole"]
    assert [stray.run.id for stray in book.store.strays(book.now, 10)] == [run.id]
    book.store.close()


@pytest.mark.slow
def test_a_node_follows_the_master_that_sentinel_names() -> None:
    master = redis.Own()
    replica = redis.Own(replicaof=f"127.0.0.1 {master.port}")
    sentinel = redis.Sentinel(master)
    clock = VirtualClock(NOON)
    book = Book(open_on_clock(sentinel.url, clock), clock)
    try:
        until(lambda: "slave_repl_offset" in info(replica) and "master_link_status:up" in info(replica))
        book.create()
        run = book.running()
        assert by_hand(book.store, "WAIT", "1", "5000") == 1
        until(lambda: "slaves=1" in str(sentinel.ask("INFO", "sentinel")))
        master.kill()

        until(lambda: "role:master" in info(replica))
        finished = book.finish(run)

        assert finished.answer is Answer.ACCEPTED
    finally:
        book.store.close()
        for server in (sentinel, replica, master):
            server.stop()


def info(own: redis.Own) -> str:
    return str(own.ask("INFO", "replication"))


def until(true: Callable[[], bool]) -> None:
    """Ask again and again: servers that agree with each other tell nobody when they do."""
    nap = threading.Event()
    for _ in range(600):
        if true():
            return
        nap.wait(0.05)
    raise AssertionError("it did not come to that")
