"""The machine's clock. The only caller of ``datetime.now`` in the package: everybody else asks a Clock."""

from datetime import UTC, datetime


class SystemClock:
    """The wall clock of this machine, in UTC. It may step back; nothing relies on that it does not."""

    def now(self) -> datetime:
        return datetime.now(UTC)
