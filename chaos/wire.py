"""A line to a server that can be cut, slowed down, silenced, torn, or led elsewhere: what networks do.

One thread of a wire passes on what comes, both ways, for everybody who connects to its port. What it suffers
is a set of burdens, each laid on and taken off for itself, so that two who burden one wire need not know of
each other. A way that is held is silent, not closed: nobody hears of it, not even that the other end is gone,
and what was on its way arrives late, as TCP would have it. A cut tells both ends at once.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random
from typing import Literal, NamedTuple

CHUNK = 65_536
UNDER_WAY_MAX = 1 << 20
"""How many bytes a way takes before they have arrived; then it lets its source wait."""

Way = Literal["up", "down"]
"""To the server, and back from it."""

BOTH: frozenset[Way] = frozenset(("up", "down"))


class Link(NamedTuple):
    """What one way costs."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    """The most that is added, drawn anew for each piece; their order is kept."""
    bytes_per_s: float = 0.0
    """For all connections together; 0 is without a bound."""


class Burden(NamedTuple):
    """What a wire suffers. Of several, latencies add up; the tightest bound and the greatest chance hold."""

    up: Link = Link()
    down: Link = Link()
    held: frozenset[Way] = frozenset()
    """The ways that are silent."""
    torn: float = 0.0
    """The chance that half a reply is passed on, and the connection is reset."""
    lost: float = 0.0
    """The chance that a request is passed on, its reply swallowed, and the connection reset."""


class Wire:
    """Listens on a port of its own and passes on what comes, to wherever it leads. Thread-safe."""

    def __init__(self, port: int, *, delay_s: float = 0.0, seed: int = 0) -> None:
        self._to = port
        self._lock = threading.RLock()
        self._whole = True
        self._closed = False
        self._burdens: dict[object, Burden] = {}
        self._all = Burden()
        self._free_at: dict[Way, float] = {"up": 0.0, "down": 0.0}  # when a bounded way has passed on all
        self._draw = Random(seed)
        self.spoiled = 0  # how many replies were torn or lost
        self._lines: set[_Line] = set()
        self._selector = selectors.DefaultSelector()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.port = int(self._listening.getsockname()[1])
        self._tell, self._told = socket.socketpair()
        for end in (self._tell, self._told):
            end.setblocking(False)
        self._selector.register(self._told, selectors.EVENT_READ)
        self._selector.register(self._listening, selectors.EVENT_READ)
        if delay_s:
            self.lay(Burden(down=Link(latency_s=delay_s)))
        self._thread = threading.Thread(target=self._serve, name="wire", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Pass on nothing more, not even what is under way; whoever connects is hung up on."""
        with self._lock:
            self._whole = False
            self._end(list(self._lines))

    def mend(self, port: int | None = None) -> None:
        """Pass on again, from new connections on; to another server, if one is named."""
        with self._lock:
            self._to = self._to if port is None else port
            self._whole = True

    def lay(self, burden: Burden) -> Callable[[], None]:
        """Lay a burden on it, from now on; return what takes it off again, which is safe to repeat."""
        name = object()  # somebody else may have laid on the same
        with self._lock:
            self._burdens[name] = burden
            self._changed()

        def take_off() -> None:
            with self._lock:
                self._burdens.pop(name, None)
                self._changed()

        return take_off

    def close(self) -> None:
        """Cut it for good. Safe to repeat."""
        self.cut()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._wake()
        self._thread.join()
        self._selector.close()
        for end in (self._listening, self._tell, self._told):
            end.close()

    # --- what it suffers ---

    def _changed(self) -> None:
        if self._closed:
            return
        self._all = _together(self._burdens.values())
        # Who connects over a wire that is silent towards the server waits, and is told nothing.
        self._watch(self._listening, 0 if "up" in self._all.held else selectors.EVENT_READ)
        for line in self._lines:
            self._watch_line(line)
        self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # then there is a word under way already
            self._tell.send(b"!")

    def _arrival(self, way: Way, size: int, now: float) -> float:
        """Return when a piece arrives that is sent now."""
        link = self._all.up if way == "up" else self._all.down
        if link.bytes_per_s:
            self._free_at[way] = max(self._free_at[way], now) + size / link.bytes_per_s
            now = self._free_at[way]
        return now + link.latency_s + (self._draw.uniform(0, link.jitter_s) if link.jitter_s else 0.0)

    # --- passing on ---

    def _serve(self) -> None:
        while True:
            found = self._selector.select(self._rest_s())
            with self._lock:
                if self._closed:
                    return
                for key, _ in found:
                    if key.fileobj is self._told:
                        with suppress(BlockingIOError):
                            self._told.recv(CHUNK)
                    elif key.fileobj is self._listening:
                        self._accept()
                touched = {key.data for key, _ in found if key.data in self._lines}
                now = time.monotonic()
                for line in touched | {each for each in self._lines if each.under_way}:
                    self._pass_on(line, now, read=line in touched)

    def _rest_s(self) -> float | None:
        """Return for how long nothing arrives, unless somebody says something."""
        with self._lock:
            arrivals = [
                run.pieces[0][0]
                for line in self._lines
                for run in line.runs
                if run.pieces and not run.stuck and run.way not in self._all.held
            ]
            return max(0.0, min(arrivals) - time.monotonic()) if arrivals else None

    def _accept(self) -> None:
        try:
            here, _ = self._listening.accept()
        except OSError:
            return
        there = socket.socket()
        for end in (here, there):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._whole:
            there.connect_ex(("127.0.0.1", self._to))  # whether it came to that is told by the first read
            line = _Line(here, there)
            self._lines.add(line)
            self._watch_line(line)
        else:
            _hang_up(here)
            there.close()

    def _pass_on(self, line: _Line, now: float, *, read: bool) -> None:
        for run in line.runs:
            if read and run.reads(self._all.held):
                data = run.read()
                if data and run.way == "down" and self._spoiled(line, data):
                    return
                if data is not None:
                    run.take(self._arrival(run.way, len(data), now), data)
            if run.way not in self._all.held and run.bring(now):
                self._end([line])
                return
        self._watch_line(line)

    def _spoiled(self, line: _Line, data: bytes) -> bool:
        """Tear a reply or lose it, if its turn has come; return whether that was done."""
        drawn = self._draw.random() if self._all.torn or self._all.lost else 1.0
        if drawn >= self._all.torn + self._all.lost:
            return False
        if drawn < self._all.torn:
            with suppress(OSError):
                line.here.send(data[: len(data) // 2])
        self.spoiled += 1
        line.here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        self._end([line], gently=False)
        return True

    def _end(self, lines: Iterable[_Line], *, gently: bool = True) -> None:
        for line in lines:
            self._lines.discard(line)
            for end in (line.here, line.there):
                self._watch(end, 0)
                if gently:
                    _hang_up(end)
                end.close()

    def _watch_line(self, line: _Line) -> None:
        up, down = line.runs
        for end, comes, goes in ((line.here, up, down), (line.there, down, up)):
            reading = selectors.EVENT_READ if comes.reads(self._all.held) else 0
            writing = selectors.EVENT_WRITE if goes.stuck and goes.way not in self._all.held else 0
            self._watch(end, reading | writing, line)

    def _watch(self, end: socket.socket, events: int, line: _Line | None = None) -> None:
        watched = self._selector.get_map().get(end)
        if watched is None and events:
            self._selector.register(end, events, line)
        elif watched is not None and not events:
            self._selector.unregister(end)
        elif watched is not None and watched.events != events:
            self._selector.modify(end, events, line)


class _Run:
    """One way of one connection, and what is under way on it."""

    def __init__(self, way: Way, source: socket.socket, to: socket.socket) -> None:
        self.way = way
        self.pieces: deque[tuple[float, bytes]] = deque()  # when each arrives; the last one is empty: the end
        self.stuck = False  # whether the receiver takes nothing just now
        self._source = source
        self._to = to
        self._size = 0
        self._ended = False

    def reads(self, held: frozenset[Way]) -> bool:
        return not self._ended and self._size < UNDER_WAY_MAX and self.way not in held

    def read(self) -> bytes | None:
        """Return what has come; nothing more will after b"", and nothing has yet is None."""
        try:
            return self._source.recv(CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def take(self, at: float, data: bytes) -> None:
        self._ended = not data
        self._size += len(data)
        self.pieces.append((max(at, self.pieces[-1][0]) if self.pieces else at, data))

    def bring(self, now: float) -> bool:
        """Bring what has arrived by now; return whether that was the end of it."""
        self.stuck = False
        while self.pieces and self.pieces[0][0] <= now:
            at, data = self.pieces.popleft()
            if not data:
                return True
            try:
                sent = self._to.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return True
            self._size -= sent
            if sent < len(data):
                self.pieces.appendleft((at, data[sent:]))
                self.stuck = True
                break
        return False


class _Line:
    """One connection: who called, and the server."""

    def __init__(self, here: socket.socket, there: socket.socket) -> None:
        self.here, self.there = here, there
        self.runs = (_Run("up", here, there), _Run("down", there, here))

    @property
    def under_way(self) -> bool:
        return any(run.pieces for run in self.runs)


def _together(burdens: Iterable[Burden]) -> Burden:
    whole = Burden()
    for each in burdens:
        whole = Burden(
            _both(whole.up, each.up),
            _both(whole.down, each.down),
            whole.held | each.held,
            max(whole.torn, each.torn),
            max(whole.lost, each.lost),
        )
    return whole


def _both(one: Link, other: Link) -> Link:
    bounds = [link.bytes_per_s for link in (one, other) if link.bytes_per_s]
    return Link(one.latency_s + other.latency_s, one.jitter_s + other.jitter_s, min(bounds, default=0.0))


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
