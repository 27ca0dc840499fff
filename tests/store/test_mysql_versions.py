"""Which MySQL and MariaDB are taken, by what they say of themselves."""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.servers.running import given_url

from onebeat.core.errors import StoreUnsafe
from onebeat.engine.clock import SystemClock
from onebeat.store.dialects.mysql import refuse_old
from onebeat.store.open import open_store

COLUMNS = 5  # of ABOUT
OK, LONG_STRING = b"\x00\x00\x00\x02\x00\x00\x00", 0xFD


class Impostor:
    """A server that says which version it is, and speaks as much of the protocol as opening asks for."""

    def __init__(self, version: str) -> None:
        self._version = version.encode()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"mysql://root@127.0.0.1:{self._listening.getsockname()[1]}/ledger"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._speak, args=(peer,), daemon=True).start()

    def _speak(self, peer: socket.socket) -> None:
        capabilities = 0x000FA20D  # protocol 4.1, secure connection, plugin auth, transactions
        greeting = (
            b"\x0a" + self._version + b"\0" + struct.pack("<I", 1) + b"12345678\0"
            + struct.pack("<H", capabilities & 0xFFFF) + b"\x2d" + struct.pack("<H", 2)
            + struct.pack("<H", capabilities >> 16) + b"\x15" + b"\0" * 10 + b"123456789012\0"
            + b"mysql_native_password\0"
        )  # fmt: skip
        with peer, peer.makefile("rb") as said:
            self._send(peer, 0, greeting)
            while head := said.read(4):
                number, body = head[3], said.read(int.from_bytes(head[:3], "little"))
                if number == 0 and body[:1] == b"\x03" and b"version()" in body.lower():
                    self._row(peer)
                elif body[:1] == b"\x01":
                    return
                else:
                    self._send(peer, number + 1, OK)

    def _row(self, peer: socket.socket) -> None:
        """Answer the question what the server is."""
        cells = [self._version, b"1", b"1", b"0", b"0"]
        packets = [bytes([COLUMNS])]
        for _ in cells:
            texts = (b"def", b"", b"", b"", b"c", b"")
            named = b"".join(bytes([len(text)]) + text for text in texts)
            packets.append(named + b"\x0c" + struct.pack("<HIBHB", 45, 255, LONG_STRING, 0, 0) + b"\0\0")
        end = b"\xfe\0\0\x02\0"
        row = b"".join(bytes([len(cell)]) + cell for cell in cells)
        for number, packet in enumerate([*packets, end, row, end], 1):
            self._send(peer, number, packet)

    @staticmethod
    def _send(peer: socket.socket, number: int, body: bytes) -> None:
        peer.sendall(len(body).to_bytes(3, "little") + bytes([number]) + body)


@contextmanager
def impostor(version: str) -> Iterator[str]:
    server = Impostor(version)
    try:
        yield server.url
    finally:
        server.close()


@pytest.mark.parametrize("version", ["5.7.44-log", "5.7.44", "10.5.29-MariaDB", "5.5.5-10.5.29-MariaDB-log"])
def test_a_server_that_is_too_old_is_refused_with_a_sentence(version: str) -> None:
    with impostor(version) as url, pytest.raises(StoreUnsafe, match=re.escape(version)) as refused:
        open_store(url, SystemClock())

    assert "needs MariaDB 10.6 or MySQL 8.0, or later" in str(refused.value)


@pytest.mark.parametrize(
    "version", ["8.0.13", "8.4.3", "9.1.0", "10.6.0-MariaDB", "5.5.5-10.11.6-MariaDB-1", "11.8.2-MariaDB"]
)
def test_one_that_is_not_is_taken(version: str) -> None:
    refuse_old(version, "here")


def test_mysql_url_names_the_server_for_all_that_is_mariadbs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ONEBEAT_TEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ONEBEAT_TEST_MARIADB_URL", "mysql://one/mysql")
    assert given_url("mariadb") == "mysql://one/mysql"

    monkeypatch.setenv("MYSQL_URL", "mysql://other/mysql")

    assert (given_url("mariadb"), given_url("postgres")) == ("mysql://other/mysql", None)
