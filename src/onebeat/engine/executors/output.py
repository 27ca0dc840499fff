"""What a command writes, kept within bounds: its head as it comes, its tail at the end, the rest counted.

A command that writes a gigabyte costs the reading of it, and never waits for a reader.
"""

from itertools import islice

from onebeat.engine.current import LINE_CHARS_MAX

HEAD_BYTES_MAX = 256 * 1024
TAIL_BYTES_MAX = 64 * 1024
LINES_ALONE_MAX = 500
"""So many lines are kept one by one between two looks of the worker; further ones are kept together."""
RESULT_TAIL_CHARS_MAX = 4000


class Output:
    """The output of one command. ``take`` what was read; what it returns is to be kept in the run's log."""

    def __init__(self) -> None:
        self._written = 0
        self._head = 0  # bytes of it that were taken for the log
        self._alone = 0
        self._unfinished = b""  # no newline came yet
        self._ready = b""  # lines that wait for the worker to look
        self._tail = bytearray()  # what came last, whether it was taken for the log or not

    def take(self, data: bytes) -> list[str]:
        """Take what was read; return lines for the log."""
        self._written += len(data)
        self._tail += data[-TAIL_BYTES_MAX:]
        if len(self._tail) > 2 * TAIL_BYTES_MAX:
            del self._tail[:-TAIL_BYTES_MAX]
        taken = data[: HEAD_BYTES_MAX - self._head]
        if not taken:
            return []
        self._head += len(taken)
        text = self._unfinished + taken
        cut = text.rfind(b"\n") + 1
        if len(text) - cut >= LINE_CHARS_MAX:  # a line without an end
            cut = _whole(text)
        self._ready += text[:cut]
        self._unfinished = text[cut:]
        return self._lines()

    def looked(self) -> list[str]:
        """Return what waits: the worker has taken all that was returned before."""
        self._alone = 0
        return self._lines() + self._rest()

    def end(self) -> list[str]:
        """Return the last entries of the log: what was no whole line, what was dropped, the tail."""
        self._ready += self._unfinished
        self._unfinished = b""
        entries = self._lines() + self._rest()
        left = self._written - self._head
        if left > 0:
            tail = bytes(self._tail[-min(left, TAIL_BYTES_MAX) :])
            if len(tail) < left:
                tail = tail[tail.find(b"\n") + 1 :]
                entries.append(f"… {left - len(tail):,} bytes of output were dropped here …")
            entries += _together(tail)
        return entries

    @property
    def tail(self) -> str:
        """Return the last of what was written, for a result or an error."""
        return _text(self._tail[-4 * RESULT_TAIL_CHARS_MAX :])[-RESULT_TAIL_CHARS_MAX:]

    def _lines(self) -> list[str]:
        """Take lines out of what is ready, as many as may still stand alone."""
        lines = list(islice(self._ready.splitlines(keepends=True), LINES_ALONE_MAX - self._alone))
        self._alone += len(lines)
        self._ready = self._ready[sum(map(len, lines)) :]
        return [entry for line in lines for entry in _together(line) or [""]]

    def _rest(self) -> list[str]:
        rest, self._ready = self._ready, b""
        return _together(rest)


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace").rstrip("\r\n")


def _together(data: bytes) -> list[str]:
    """Return entries of at most LINE_CHARS_MAX, broken between lines where it can be."""
    text, entries = _text(data), []
    while len(text) > LINE_CHARS_MAX:
        cut = text.rfind("\n", 0, LINE_CHARS_MAX) + 1 or LINE_CHARS_MAX
        entries.append(text[:cut].rstrip("\r\n"))
        text = text[cut:]
    return [*entries, text] if text else entries


def _whole(data: bytes) -> int:
    """Return how many of these bytes are whole characters of UTF-8, as far as they are UTF-8."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < length else len(data)
    return len(data)
