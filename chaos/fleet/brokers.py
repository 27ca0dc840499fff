"""The broker of a fleet: a server of the rig's own, that may be killed, and may have forgotten everything."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Protocol

from tests.servers import rabbitmq, redis


class Broker(Protocol):
    """A broker that is there, until it is killed."""

    @property
    def port(self) -> int: ...

    @property
    def version(self) -> str:
        """Its product and version."""

    def at(self, port: int) -> str:
        """Return the URL by way of a port."""

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def forget(self) -> None:
        """Remove all that it kept. For one that was killed."""

    def stop(self) -> None: ...


class Redis(redis.Own):
    """Redis, which writes down each message before it says that it has it."""

    @property
    def version(self) -> str:
        """Its product and version, as it says."""
        told = str(self.ask("INFO", "server")).splitlines()
        return next(f"Redis {line.partition(':')[2]}" for line in told if line.startswith("redis_version:"))

    def at(self, port: int) -> str:
        """Return the URL by way of a port."""
        return f"redis://127.0.0.1:{port}/0"

    def forget(self) -> None:
        """Remove the files with its data."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)


class RabbitMQ(rabbitmq.Own):
    """RabbitMQ, whose queues and messages are on disk, as Celery has it."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.node.port

    @property
    def version(self) -> str:
        """Its product and version, as it says."""
        version = self.evaluate("rabbit_misc:version()").strip('"')
        return f"RabbitMQ {version}"

    def at(self, port: int) -> str:
        """Return the URL by way of a port."""
        return self.url.replace(f":{self.port}/", f":{port}/")

    def forget(self) -> None:
        """Remove the folder with its data."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)


BROKERS: dict[str, Callable[[], Broker]] = {"amqp": RabbitMQ, "redis": Redis}
