"""An app like any other: two hundred declarations, on a store that cannot be reached."""

from __future__ import annotations

from onebeat import Onebeat, call

beat = Onebeat("sqlite:////nowhere/there/is/no/such/folder/ledger.db")

for number in range(200):
    beat.declare(f"declared-{number}", "0 9 * * *", call("somewhere.else:entirely", number))


@beat.scheduled("*/5 * * * *")
def told() -> None:
    raise AssertionError("importing runs nothing")
