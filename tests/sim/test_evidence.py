"""What the onlooker remembers, where a false memory would accuse the ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from onebeat.core import edits
from onebeat.core.decide import settle
from onebeat.core.model import Definition, Load, Overlap, Policy, Target, TriggerSpec
from onebeat.testing.evidence import Evidence

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
EVERY_SECOND = TriggerSpec(kind="interval", fields={"period_s": 1, "anchor_at": "2026-11-21T12:00:00Z"})


def under(limit: int) -> Definition:
    return Definition(
        trigger=EVERY_SECOND,
        target=Target(kind="python", address="m:f"),
        policy=Policy(overlap=Overlap.QUEUE_ALL, max_running=limit),
    )


def author(name: str, at: datetime) -> edits.Author:
    return edits.Author(edit_id=name, cut_at=at)


def fired(seen: Evidence, at: datetime) -> str:
    decision = settle(edits.owing_of(seen.rows[1], Load()), at)
    seen.took_decision(decision, at)
    (run_id,) = (tile.run.id for tile in decision.settlements if tile.run is not None)
    return run_id


def test_a_limit_that_was_lowered_after_the_clock_went_back_does_not_bind_what_was_fired_before() -> None:
    seen = Evidence()
    seen.took_edit(edits.create("s", under(2), author("made", T0)), 1, T0)
    before = [fired(seen, T0 + SECOND), fired(seen, T0 + 2 * SECOND)]
    assert seen.most_running(1, before) == 2

    # The store's clock has gone back: by its own instant, this edit came before they were fired.
    seen.took_edit(edits.edit(seen.rows[1], Load(), under(1), author("lowered", T0)), 1, T0)

    assert seen.most_running(1, before) == 2
    assert seen.most_running(1, [fired(seen, T0 + 3 * SECOND)]) == 1
