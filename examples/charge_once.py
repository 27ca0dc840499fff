"""An effect that knows repetition.

A node may die after it charged the card and before it could say so. The run then starts again elsewhere,
under the same id, and the second charge changes nothing.
"""

import os
import sqlite3

from onebeat import CurrentRun, Onebeat, interval

beat = Onebeat(zone="UTC")
PAYMENTS = os.environ.get("PAYMENTS", "payments.db")


def charge(run: CurrentRun, customer: int, cents: int) -> str:
    """Charge a customer for one occurrence, once."""
    with sqlite3.connect(PAYMENTS) as payments:
        payments.execute(
            "CREATE TABLE IF NOT EXISTS charge (run TEXT PRIMARY KEY, customer INTEGER, cents INTEGER)"
        )
        row = (run.id, customer, cents)
        done = payments.execute("INSERT INTO charge VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)
    payments.close()
    return "charged" if done.rowcount else "had been charged already"


@beat.scheduled(interval(seconds=2), name="subscription-17", args=[17, 990])
def subscription(run: CurrentRun, customer: int, cents: int) -> str:
    """Charge a subscription every two seconds, for those who cannot wait for the end of the month."""
    return charge(run, customer, cents)


if __name__ == "__main__":
    beat.serve()
