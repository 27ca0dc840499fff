"""Effect and outcome in one commit; an order and its deadline in one commit.

On SQLite the user's tables are in the ledger's file, and both connections are apsw's. On a server they are
psycopg's or PyMySQL's, and an argument is written %s.
"""

import sys

import apsw

from onebeat import CurrentRun, Onebeat, call, interval, minutes, once

beat = Onebeat(zone="UTC", modules=["commit_together"])


@beat.scheduled(interval(seconds=1), transactional=True, timeout=5)
def book_interest(run: CurrentRun) -> None:
    """Book once for each occurrence, wherever a node dies: the row and the run's success are one commit."""
    run.connection.execute("CREATE TABLE IF NOT EXISTS booked (run TEXT)")
    run.connection.execute("INSERT INTO booked VALUES (?)", (run.id,))


def close(number: int) -> None:
    """Close an order that was not paid."""
    print(f"order {number} is closed")


def order(number: int) -> None:
    """Take an order that is closed in half an hour: both are there, or neither."""
    db = apsw.Connection(beat.store.facts()["place"])
    db.set_busy_timeout(10_000)
    with db:  # a transaction, committed at its end
        db.execute("CREATE TABLE IF NOT EXISTS orders (number INTEGER)")
        db.execute("INSERT INTO orders VALUES (?)", (number,))
        using = beat.using(db)
        using.schedules.put(f"close-{number}", once(in_=minutes(30)), call(close, number))
    using.committed()  # nodes look at once, and not within a second
    db.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        order(int(sys.argv[1]))
    else:
        beat.serve()
