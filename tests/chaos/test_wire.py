"""What a wire does to those who speak over it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from chaos.wire import Burden, Link, Wire

PATIENCE_S = 30.0
SILENCE_S = 0.1  # how long nothing comes, to be taken for silent


class Echo:
    """A server that answers with what it was told, and keeps what it heard."""

    def __init__(self, name: bytes = b"") -> None:
        self.heard: list[bytes] = []
        self.news = threading.Condition()
        self._name = name
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def until_heard(self, word: bytes) -> None:
        with self.news:
            assert self.news.wait_for(lambda: word in b"".join(self.heard), PATIENCE_S)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                end, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(end,), daemon=True).start()

    def _answer(self, end: socket.socket) -> None:
        with end:
            try:
                while data := end.recv(65_536):
                    with self.news:
                        self.heard.append(data)
                        self.news.notify_all()
                    end.sendall(self._name + data)
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as server:
        yield server


@pytest.fixture
def wire(echo: Echo) -> Iterator[Wire]:
    with closing(Wire(echo.port)) as made:
        yield made


def call(wire: Wire) -> socket.socket:
    return socket.create_connection(("127.0.0.1", wire.port), timeout=PATIENCE_S)


def told(end: socket.socket, size: int) -> bytes:
    """Return so many bytes, or what came before the end of the line."""
    data = b""
    while len(data) < size and (more := end.recv(size - len(data))):
        data += more
    return data


def silent(end: socket.socket) -> bool:
    end.settimeout(SILENCE_S)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE_S)
    return False


def test_all_of_it_arrives_in_order_both_ways(wire: Wire) -> None:
    sent = bytes(range(256)) * 40_000
    with call(wire) as end:
        threading.Thread(target=end.sendall, args=(sent,), daemon=True).start()

        assert told(end, len(sent)) == sent


def test_a_held_way_is_silent_and_brings_late_what_was_said(wire: Wire, echo: Echo) -> None:
    with call(wire) as end:
        end.sendall(b"before")
        assert told(end, 6) == b"before"

        let_go = wire.lay(Burden(held=frozenset({"up", "down"})))
        end.sendall(b"during")
        assert silent(end)
        assert b"during" not in echo.heard

        let_go()
        assert told(end, 6) == b"during"


def test_where_only_the_way_back_is_held_the_server_hears_and_is_not_heard(wire: Wire, echo: Echo) -> None:
    with call(wire) as end:
        let_go = wire.lay(Burden(held=frozenset({"down"})))
        end.sendall(b"commit")
        echo.until_heard(b"commit")
        assert silent(end)

        let_go()
        assert told(end, 6) == b"commit"


def test_who_calls_over_a_silent_wire_is_heard_when_it_is_let_go(wire: Wire) -> None:
    let_go = wire.lay(Burden(held=frozenset({"up"})))
    with call(wire) as end:
        end.sendall(b"late")
        assert silent(end)

        let_go()
        assert told(end, 4) == b"late"


def test_the_last_words_over_a_silent_wire_arrive_late_and_harm_no_other(wire: Wire, echo: Echo) -> None:
    with call(wire) as end, call(wire) as other:
        end.sendall(b"one")
        assert told(end, 3) == b"one"
        let_go = wire.lay(Burden(held=frozenset({"up"})))
        end.sendall(b"last words")
        end.close()
        let_go()

        echo.until_heard(b"last words")
        other.sendall(b"others")
        assert told(other, 6) == b"others"


def test_latency_is_paid_on_each_way_and_is_gone_with_the_burden(wire: Wire) -> None:
    with call(wire) as end:
        take_off = wire.lay(Burden(up=Link(latency_s=0.06), down=Link(latency_s=0.06)))
        at = time.monotonic()
        end.sendall(b"slow")
        assert told(end, 4) == b"slow"
        assert time.monotonic() - at >= 0.12

        take_off()
        at = time.monotonic()
        for _ in range(20):
            end.sendall(b"fast")
            assert told(end, 4) == b"fast"
        assert time.monotonic() - at < 20 * 0.12


def test_jitter_changes_no_order(wire: Wire) -> None:
    wire.lay(Burden(down=Link(jitter_s=0.02)))
    with call(wire) as end:
        for number in range(10):
            end.sendall(bytes([number]))

        assert told(end, 10) == bytes(range(10))


def test_a_bound_of_bytes_holds_for_all_connections_together(wire: Wire) -> None:
    wire.lay(Burden(up=Link(bytes_per_s=400_000)))
    with call(wire) as one, call(wire) as other:
        at = time.monotonic()
        for end in (one, other):
            end.sendall(b"x" * 40_000)
        for end in (one, other):
            assert len(told(end, 40_000)) == 40_000

        assert time.monotonic() - at >= 0.2


def test_a_torn_reply_arrives_in_half_and_then_the_line_is_reset(wire: Wire) -> None:
    with call(wire) as end:
        wire.lay(Burden(torn=1.0))
        end.sendall(b"12345678")

        assert told(end, 4) == b"1234"
        with pytest.raises(ConnectionResetError):
            end.recv(1)


def test_a_lost_reply_answers_a_request_that_was_heard(wire: Wire, echo: Echo) -> None:
    with call(wire) as end:
        wire.lay(Burden(lost=1.0))
        end.sendall(b"commit")

        with pytest.raises(ConnectionResetError):
            end.recv(1)
        echo.until_heard(b"commit")


def test_two_burdens_are_taken_off_one_by_one(wire: Wire) -> None:
    with call(wire) as end:
        first = wire.lay(Burden(held=frozenset({"down"})))
        second = wire.lay(Burden(held=frozenset({"down"})))
        end.sendall(b"x")

        first()
        first()
        assert silent(end)

        second()
        assert told(end, 1) == b"x"


def test_a_cut_hangs_up_and_a_mended_wire_may_lead_elsewhere(wire: Wire) -> None:
    with call(wire) as end, closing(Echo(b"other: ")) as other:
        end.sendall(b"x")
        assert told(end, 1) == b"x"
        wire.cut()
        assert end.recv(1) == b""
        with call(wire) as refused:
            assert refused.recv(1) == b""

        wire.mend(other.port)
        with call(wire) as again:
            again.sendall(b"y")
            assert told(again, 8) == b"other: y"


def test_who_calls_where_nobody_listens_is_hung_up_on(wire: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    wire.mend(port)

    with call(wire) as end:
        assert end.recv(1) == b""
