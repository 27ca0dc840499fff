"""What is Redis's own, while all is well: keys, wake-ups, large batches, lost replies, far instants."""

from __future__ import annotations

import multiprocessing
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from tests.servers import ledgers, redis
from tests.store.redis_place import by_hand, keys, namespace

from onebeat.core.errors import StoreUnavailable, StoreUnsafe
from onebeat.core.messages import Answer, Entry, EntryAnswer, HandOver, Hold, LogLine, Note, Release
from onebeat.core.model import Event, Overlap, RunState
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store
from onebeat.store.redis import waking
from onebeat.store.redis.opening import open_on_clock
from onebeat.store.redis.store import AT_ONCE, RedisStore
from onebeat.testing.clock import NOON, VirtualClock
from onebeat.testing.conformance_stage import DAY, EVERYTHING, HOUR, MINUTE, Book, one

pytestmark = pytest.mark.server("redis")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "redis-keys.md"
PATIENCE = timedelta(seconds=60)
SHORT = timedelta(milliseconds=50)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return redis.ledger_url(tmp_path)


@pytest.fixture
def store(url: str, clock: VirtualClock) -> Iterator[RedisStore]:
    store = open_on_clock(url, clock)
    yield store
    store.close()


@pytest.fixture
def book(store: RedisStore, clock: VirtualClock) -> Book:
    return Book(store, clock)


# --- keys -----------------------------------------------------------------------------------------------


def play(book: Book) -> None:
    """Leave something under every key."""
    book.create("a", overlap=Overlap.QUEUE_ALL, keep_runs=1)
    run = book.running("a", until=book.now + HOUR)
    line = LogLine(at=book.now, attempt=1, level="info", text="hello")
    book.store.note([Note(run_id=run.id, token=run.token, progress=(1, 2), lines=(line,))])
    book.fire("a", RunState.WAITING)
    book.request("a", "asked", RunState.WAITING)
    for fields in ({"paused": ""}, {"quarantined": "bad"}, {"deleted": True}):
        name = next(iter(fields))
        book.accept(book.change(book.create(name), next_at=None, **fields))
    free = book.create("free", overlap=Overlap.ALLOW, keep_runs=1, exclusive="invoices")
    at = book.clock.advance(MINUTE)
    book.settle(book.decision(free, book.skipped(free, at)))
    for _ in range(3):
        book.finish(book.running("free"))
    book.fire("free")
    kept = book.create("kept", overlap=Overlap.ALLOW)
    at = book.clock.advance(MINUTE)
    book.settle(book.decision(kept, book.skipped(kept, at)))
    book.store.hold(Hold(since_at=book.now), "h1")
    book.store.announce(book.node())
    book.store.cursor("mail", 1)
    book.store.purge(book.now, EVERYTHING)
    words = Entry(id="", key="k", kind="pause", name="a")
    answered, _ = [ledgers.append(book.store, words) for _ in range(2)]
    book.store.answer([EntryAnswer(entry_id=answered, accepted=True)])


def test_every_key_is_on_the_page_and_the_page_has_no_other(book: Book, store: RedisStore) -> None:
    play(book)
    rows = re.findall(r"^\| (`.+?) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([^`]+)`", row)} - {"changes"}

    patterns = {name: re.compile(re.sub(r"<[^>]+>", ".+", name)) for name in documented}
    plain = [key.removeprefix(namespace(store)) for key in keys(store)]
    found = {key: [name for name, pattern in patterns.items() if pattern.fullmatch(key)] for key in plain}

    assert [key for key, names in found.items() if not names] == []
    assert documented - {name for names in found.values() for name in names} == set()


def test_no_key_ever_expires_and_none_is_outside_of_the_namespace(clock: VirtualClock) -> None:
    own = redis.Own()
    store = open_on_clock(own.url, clock)
    play(Book(store, clock))

    found = by_hand(store, "KEYS", "*")
    assert all(key.startswith("{onebeat}:") for key in found)
    assert {by_hand(store, "TTL", key) for key in found} == {-1}
    store.close()
    own.stop()


def test_indexes_hold_what_the_runs_say_and_nothing_else(book: Book, store: RedisStore) -> None:
    play(book)
    ns = namespace(store)
    states = {run_id: state.value for run_id, state in book.states().items()}

    def members(pattern: str) -> dict[str, list[str]]:
        found = [key for key in keys(store) if key.startswith(ns + pattern)]
        return {key.removeprefix(ns + pattern): by_hand(store, "ZRANGE", key, "0", "-1") for key in found}

    by_state = {run: state for state, runs in members("state:").items() for run in runs}
    ready = {run for runs in members("ready:").values() for run in runs}
    seats = {
        seat: {run for runs in members(seat).values() for run in runs}
        for seat in ("live:", "waiting:", "ended:")
    }

    assert by_state == states
    assert ready == {run for run, state in states.items() if state == "ready"}
    assert seats["waiting:"] == {run for run, state in states.items() if state == "waiting"}
    assert seats["live:"] == {run for run, state in states.items() if state in ("ready", "running", "sent")}
    assert seats["ended:"] == set(states) - seats["waiting:"] - seats["live:"]
    assert set(by_hand(store, "ZRANGE", f"{ns}lanes", "0", "-1")) == set(members("ready:"))
    assert set(by_hand(store, "ZRANGE", f"{ns}watch", "0", "-1")) == {
        run for run, state in states.items() if state == "running"
    }
    unfinished = by_hand(store, "HVALS", f"{ns}unfinished")
    assert sum(map(int, unfinished)) == len(seats["waiting:"]) + len(seats["live:"])


def test_a_run_that_moves_twice_in_one_batch_stands_in_its_last_place_alone(
    book: Book, store: RedisStore
) -> None:
    book.create()
    book.fire()
    run = one(book.claim()).run

    answers = store.advance([Release(run_id=run.id, token=run.token), HandOver(run_id=run.id, attempt=1)])

    assert [answer.answer for answer in answers] == [Answer.ACCEPTED] * 2
    found = {key.removeprefix(namespace(store)) for key in keys(store)}
    assert {
        key for key in found if key.startswith(("state:", "ready:", "lanes", "live:", "ended:", "watch"))
    } == {
        "state:handed_over",
        f"ended:{run.schedule_id}",
    }


def test_two_namespaces_on_one_server_know_nothing_of_each_other(
    book: Book, tmp_path: Path, clock: VirtualClock
) -> None:
    book.create("a")
    other = Book(open_on_clock(redis.ledger_url(tmp_path / "other"), clock), clock)

    assert other.store.owing(["a"]) == []
    assert other.create("a").id == 1
    other.store.close()


# --- numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("year", [1, 1969, 2255, 9999])
def test_an_instant_comes_back_to_the_microsecond(year: int, book: Book) -> None:
    at = datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

    row = book.accept(book.change(book.create(), next_at=at, skips=(at,)))

    assert book.row() == row
    assert (row.next_at, row.skips) == (at, (at,))
    due = book.store.due(book.now, 10)
    assert (len(due.rows), due.next_at) == ((1, None) if year < 2026 else (0, at))


# --- large batches --------------------------------------------------------------------------------------


def test_a_batch_that_no_script_takes_at_once_is_committed_in_parts(book: Book) -> None:
    count = 2 * AT_ONCE + 1
    book.store.put([book.creation(f"s{number:04}") for number in range(count)])
    at = book.clock.advance(MINUTE)
    due = book.store.due(at, EVERYTHING)
    rows = [row for row, _ in book.store.owing([owing.name for owing in due.rows])]

    won = book.settle(*[book.decision(row, book.fired(row, at)) for row in rows])
    claimed = book.claim(limit=EVERYTHING)

    assert won == (True,) * count
    assert len({each.run.id for each in claimed}) == count
    assert len({each.run.token for each in claimed}) == count
    assert len(book.states()) == count


def test_a_hold_between_two_parts_makes_the_rest_stale(
    book: Book, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = AT_ONCE + 1
    book.store.put([book.creation(f"s{number:04}") for number in range(count)])
    at = book.clock.advance(MINUTE)
    rows = [row for row, _ in book.store.owing([f"s{number:04}" for number in range(count)])]
    decisions = [book.decision(row, book.fired(row, at)) for row in rows]
    write = store._write

    def hold_after(script: object, args: object) -> object:
        answer = write(script, args)  # type: ignore[arg-type]  # passed on as they came
        monkeypatch.undo()
        store.hold(Hold(since_at=at), "h1")
        return answer

    monkeypatch.setattr(store, "_write", hold_after)

    settled = store.settle(at, decisions)

    assert (settled.held, settled.won) == (False, (True,) * AT_ONCE + (False,))
    assert store.settle(at, decisions).held


# --- definitions that nobody can read -------------------------------------------------------------------


def test_a_run_whose_definition_does_not_decode_stays_and_holds_up_no_neighbour(
    book: Book, store: RedisStore
) -> None:
    row = book.create("bad", priority=9)
    book.create("good")
    bad, good = book.fire("bad"), book.fire("good")
    by_hand(store, "HSET", f"{namespace(store)}definition:{row.id}:1", "policy", "{broken")

    claimed = book.claim(limit=1)

    assert [each.run.id for each in claimed] == [good.id]
    assert book.run(bad).state is RunState.READY
    assert book.run(bad).attempt == 0


def test_a_run_whose_definition_does_not_decode_is_not_sent_and_holds_up_no_neighbour(
    book: Book, store: RedisStore
) -> None:
    rows = [book.create(name, priority=9) for name in ("bad", "worse")]
    book.create("good")
    bad, worse, good = book.fire("bad"), book.fire("worse"), book.fire("good")
    for row in rows:
        by_hand(store, "HSET", f"{namespace(store)}definition:{row.id}:1", "policy", "{broken")

    claimed = book.claim(limit=1, sends=True)

    assert [each.run.id for each in claimed] == [good.id]
    for run in (bad, worse):
        assert book.run(run) == run
    assert [each.run.id for each in store.lost(book.now + 2 * HOUR, 10)] == [good.id]


# --- what a hand does ---------------------------------------------------------------------------------


def test_a_text_that_a_hand_broke_hides_no_neighbour(book: Book, store: RedisStore) -> None:
    row = book.create("bad")
    book.create("good")
    runs = {book.fire("bad").id, book.fire("good").id}
    no_text = "return redis.call('HSET', KEYS[1], ARGV[1], 'no text: ' .. string.char(255))"
    by_hand(store, "EVAL", no_text, "1", f"{namespace(store)}definition:{row.id}:1", "title")
    by_hand(store, "EVAL", no_text, "1", f"{namespace(store)}schedule:{row.id}", "name")

    due = store.due(NOON + timedelta(days=1), 10).rows
    claimed = book.claim(limit=10)

    assert {each.name for each in due} == {"good", "no text: \ufffd"}
    assert {each.run.id for each in claimed} == runs
    assert {each.definition.title for each in claimed} == {"", "no text: \ufffd"}


def test_scripts_that_a_server_forgot_are_sent_again(book: Book, store: RedisStore) -> None:
    row = book.create()
    by_hand(store, "SCRIPT", "FLUSH")

    assert book.accept(book.change(row)).version == 2


@pytest.mark.parametrize("key", ["due", "events", "lanes", "watch"])
def test_something_else_in_the_place_of_a_key_stops_a_verb_before_it_writes(
    key: str, book: Book, store: RedisStore
) -> None:
    row = book.create()
    run = book.running()
    tile = book.fired(book.row(), book.clock.advance(MINUTE))
    by_hand(store, "DEL", namespace(store) + key)
    by_hand(store, "SET", namespace(store) + key, "mine")
    decision = book.decision(book.row(), tile)

    with pytest.raises(StoreUnsafe, match=key):
        book.settle(decision)
    with pytest.raises(StoreUnsafe, match=key):
        book.finish(run)

    assert book.row().version == row.version + 1
    assert book.run(run).state is RunState.RUNNING


# --- waking ---------------------------------------------------------------------------------------------


def woken_by(url: str, change: str) -> bool:
    """Wait on one store, long; change something through another one; return whether that ended the wait."""
    clock = VirtualClock(NOON)
    there = open_on_clock(url, clock)
    here = open_on_clock(url, clock)  # the later one: it hears nothing of how the other was opened
    book = Book(there, clock)
    begun, woken = threading.Event(), []
    here.wait(NOON)

    def sleeper() -> None:
        here.wait(NOON)
        begun.set()
        woken.append(here.wait(NOON + PATIENCE))

    thread = threading.Thread(target=sleeper, daemon=True)
    thread.start()
    assert begun.wait(PATIENCE.total_seconds())
    if change == "put":
        book.create()
    else:  # what a message that was lost leaves
        by_hand(there, "HINCRBY", f"{namespace(there)}meta", "changes", "1")
    thread.join(PATIENCE.total_seconds())
    here.close()
    there.close()
    return woken == [True]


def test_a_change_by_another_process_ends_a_wait(url: str) -> None:
    assert woken_by(url, "put")


def test_a_change_whose_message_was_lost_is_found_by_looking(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "PERIOD", SHORT)

    assert woken_by(url, "a message that was lost")


def test_looking_finds_a_change_that_no_message_told_of_and_finds_it_once(store: RedisStore) -> None:
    look = store._waking._look
    look()

    by_hand(store, "HINCRBY", f"{namespace(store)}meta", "changes", "1")

    assert look() is True
    assert look() is False


def test_nobody_is_woken_by_his_own_change_twice(book: Book, store: RedisStore) -> None:
    store.wait(book.now)
    for number in range(20):
        book.create(f"s{number}")

    assert store.wait(book.now + PATIENCE) is True
    assert store.wait(book.now) is False


# --- replies that are lost ------------------------------------------------------------------------------


class Thief:
    """A way to the server that swallows the next answer when told to, and hangs up instead.

    Told to ``deafen``, it swallows what comes for whoever listens by then, and hangs up on nobody.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.lines = SimpleQueue[socket.socket]()  # each that has begun to listen
        self._deaf: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.steals = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                here, _ = self._listening.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._pass_on, args=(here, there, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(there, here, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and self.steals:
                    self.steals = False
                    break
                if source in self._deaf:
                    continue
                to.sendall(data)
                if answers and b"\nsubscribe\r" in data:
                    self.lines.put(source)
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def deafen(self) -> None:
        self._deaf.append(self.lines.get(timeout=PATIENCE.total_seconds()))

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def test_a_command_whose_answer_was_lost_is_never_sent_again(tmp_path: Path, clock: VirtualClock) -> None:
    own = redis.Own()
    thief = Thief(own.port)
    store = open_on_clock(f"redis://127.0.0.1:{thief.port}/0", clock)
    store.record([Event(at=NOON, kind="node.heard")])

    thief.steals = True
    with pytest.raises(StoreUnavailable):
        store.record([Event(at=NOON, kind="node.unheard")])

    kinds = [event.kind for event in Book(store, clock).events()]
    assert kinds == ["node.heard", "node.unheard"]
    store.close()
    thief.close()
    own.stop()


def test_a_line_on_which_nothing_comes_any_more_is_made_again(
    monkeypatch: pytest.MonkeyPatch, clock: VirtualClock
) -> None:
    monkeypatch.setattr(waking, "LISTEN_S", SHORT.total_seconds())
    own = redis.Own()
    thief = Thief(own.port)
    here, there = open_on_clock(f"redis://127.0.0.1:{thief.port}/0", clock), open_on_clock(own.url, clock)
    here.wait(NOON)
    thief.deafen()
    book = Book(there, clock)

    made = False
    for number in range(30):
        book.create(f"s{number}")
        assert here.wait(NOON + PATIENCE)
        with suppress(Empty):
            made = made or bool(thief.lines.get(timeout=10 * SHORT.total_seconds()))
        if made:
            break

    assert made
    here.close()
    there.close()
    thief.close()
    own.stop()


def test_a_commit_that_too_few_replicas_have_is_not_acknowledged(clock: VirtualClock) -> None:
    master = redis.Own()
    alone = open_on_clock(f"{master.url}?replicas=1", clock)
    with pytest.raises(StoreUnavailable, match="only 0 of 1 replicas"):
        alone.record([Event(at=NOON, kind="node.heard")])

    replica = redis.Own(replicaof=f"127.0.0.1 {master.port}")
    while by_hand(alone, "WAIT", "1", "100") < 1:
        pass
    alone.record([Event(at=NOON, kind="node.heard")])

    assert len(Book(alone, clock).events()) == 2
    alone.close()
    replica.stop()
    master.stop()


# --- processes ------------------------------------------------------------------------------------------


def _in_a_child(book: Book) -> None:
    book.create("child")


def test_a_forked_child_connects_anew(book: Book, store: RedisStore) -> None:
    book.create("parent")
    store.wait(book.now)
    child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(book,))

    child.start()
    child.join(PATIENCE.total_seconds())

    assert child.exitcode == 0
    assert {row.name for row, _ in store.owing(["parent", "child"])} == {"parent", "child"}


def test_the_clock_is_the_servers(url: str) -> None:
    store = open_store(url, VirtualClock(NOON - DAY))
    machine = SystemClock().now()

    assert abs(store.now() - machine) < HOUR
    settled = store.settle(store.now() + HOUR, [])
    assert settled.early_by is not None
    assert HOUR - PATIENCE < settled.early_by <= HOUR
    store.close()
