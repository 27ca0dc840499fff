"""An HTTP service on loopback that answers as a test wants it to: well, badly, slowly, endlessly, never.

``python -m tests.engine.service`` is one in a process of its own, which says its port, and then a line for
each thousand requests that wait.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import unquote

PIECE = b"x" * 65_536


class Service:
    """What is asked of it is in ``asked``; requests for ``/hang`` wait until ``let_go``."""

    def __init__(self, certificate: Path | None = None) -> None:
        self._certificate = certificate
        self.asked: list[dict[str, Any]] = []
        self.sent = 0
        self.cut_off = threading.Event()
        """Set when a client has left before the end."""
        self.waiting = 0
        self._ready: Future[tuple[int, asyncio.AbstractEventLoop]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self.port, self._loop = self._ready.result()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def let_go(self) -> None:
        self._loop.call_soon_threadsafe(self._gate.set)

    def hold(self) -> None:
        self._loop.call_soon_threadsafe(self._gate.clear)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._gate, self._over = asyncio.Event(), asyncio.Event()
        tls = None
        if self._certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(self._certificate)
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=8192, limit=1024, ssl=tls)
        self._ready.set_result((server.sockets[0].getsockname()[1], asyncio.get_running_loop()))
        await self._over.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers.get("Content-Length", "0")))
            asked = {"method": method, "path": path, "headers": headers, "body": body.decode()}
            self.asked.append(asked)
            await self._say(writer, asked)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.cut_off.set()
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
        _, what, rest = (*unquote(asked["path"]).split("/", 2), "")[:3]
        match what:
            case "echo":
                _whole(writer, 200, json.dumps(asked))
            case "status":
                _whole(writer, int(rest), "so it is")
            case "large":
                _whole(writer, int(rest), "x" * 100_000)
            case "to":
                status, url = rest.split("/", 1)
                writer.write(
                    f"HTTP/1.1 {status} There\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n".encode()
                )
            case "hang":
                self.waiting += 1
                if self.waiting % 1000 == 0:
                    print(self.waiting, flush=True)
                await self._gate.wait()
                _whole(writer, 200, "at last")
            case "flood" | "drip":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
                piece = PIECE if what == "flood" else b"x"
                while not writer.is_closing():
                    writer.write(piece)
                    await writer.drain()
                    self.sent += len(piece)
                    await asyncio.sleep(0 if what == "flood" else 0.01)
                self.cut_off.set()
            case "heads":
                writer.write(b"HTTP/1.1 200 OK\r\n")
                for _ in range(100_000):
                    writer.write(b"X-Much: more of it\r\n")
                    await writer.drain()
            case "mute":
                pass
            case _:
                _whole(writer, 200, "all is well")


def _whole(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    content = text.encode()
    writer.write(f"HTTP/1.1 {status} So\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)


if __name__ == "__main__":
    service = Service()
    print(service.port, flush=True)
    input()
    service.let_go()
    input()
