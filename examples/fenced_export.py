"""A resource that remembers the largest token it has seen.

A body that was stopped past its lease and wakes up, while another attempt has done the work long since, finds
the door closed.
"""

import os
import sqlite3

from onebeat import CurrentRun, Onebeat

beat = Onebeat(zone="UTC")
EXPORTS = os.environ.get("EXPORTS", "exports.db")
TABLE = "CREATE TABLE IF NOT EXISTS export (name TEXT PRIMARY KEY, content TEXT, token INTEGER)"
WRITE = """
    INSERT INTO export VALUES (:name, :content, :token)
    ON CONFLICT (name) DO UPDATE SET content = :content, token = :token WHERE token < :token
"""


class TooLateError(Exception):
    """Somebody with a larger token has written."""


def write(name: str, content: str, token: int) -> None:
    """Write an export, unless a later attempt has written it."""
    with sqlite3.connect(EXPORTS) as exports:
        exports.execute(TABLE)
        done = exports.execute(WRITE, {"name": name, "content": content, "token": token})
    exports.close()
    if not done.rowcount:
        raise TooLateError(f"{name} was written under a token larger than {token}")


@beat.scheduled("0 * * * *")
def hourly_export(run: CurrentRun) -> None:
    """Export once an hour."""
    write("hourly", f"as of {run.occurrence.isoformat()}", run.token)


if __name__ == "__main__":
    beat.serve()
