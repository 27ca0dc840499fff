"""The mill that peers are put through: what it owes whom, what it sees, and that it can be failed."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.peers.kinds import BY_NAME, KINDS
from chaos.peers.play import FAULTS, LASTS_S, REST_S, SCHEDULES, SLOT_S, Played, plan, play
from chaos.peers.stage import BACK_S, Seat
from chaos.peers.table import table
from chaos.peers.verdict import Line, after_each, judged, on_grid, read, served
from tests.servers.running import SERVERS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "peers-under-faults.md"
DATA = PAGE.parent / "data" / "peers"
BEGIN, END = 1003.0, 1103.0
NAME, PERIOD = "s2-00", 2


def played(lines: list[str]) -> Played:
    return Played(BEGIN, END, [], {"node": 0}, {"node": 0}, {"node": [(BEGIN, None)]}, lines)


def on_time() -> list[float]:
    """What fires all the time, before the play as well."""
    return [at + 0.01 for at in on_grid(PERIOD, BEGIN - 10, END + 10)]


def verdict(fired: list[float]) -> dict[str, int]:
    lines = [f"{NAME} {at} - 1" for at in fired]
    return judged(played(lines), {NAME: PERIOD}, anchored=True)["counts"]


def sent_verdict(messages: list[tuple[float, float]]) -> dict[str, int]:
    lines = [f"{NAME} {at} {sent} 1" for sent, at in messages]
    return judged(played(lines), {NAME: PERIOD}, anchored=False)["counts"]


def wrong(counts: dict[str, int]) -> tuple[int, int, int]:
    return counts["missed"], counts["doubled"], counts["phantom"]


# --- the plan ---


def test_plan_of_a_seed_is_always_the_same() -> None:
    assert plan(7, 240) == plan(7, 240) != plan(8, 240)


@pytest.mark.parametrize("seed", range(20))
def test_plan_deals_every_fault_alike_and_each_ends_before_the_next(seed: int) -> None:
    slots = plan(seed, 240)

    counts = Counter(slot.kind for slot in slots)
    assert set(counts) == set(FAULTS)
    assert max(counts.values()) - min(counts.values()) <= 1
    ends = [slot.at_s + LASTS_S[slot.kind] for slot in slots]
    assert all(end < later.at_s for end, later in zip(ends, slots[1:], strict=False))
    assert ends[-1] <= 240 - REST_S + SLOT_S


# --- a grid ---


def test_right_firings_on_a_grid_leave_nothing_to_say() -> None:
    assert wrong(verdict(on_time())) == (0, 0, 0)


def test_firing_that_is_dropped_was_missed() -> None:
    fired = on_time()
    del fired[20]

    assert wrong(verdict(fired)) == (1, 0, 0)


def test_firing_that_came_twice_is_doubled() -> None:
    fired = on_time()

    assert wrong(verdict([*fired, fired[20] + 0.3])) == (0, 1, 0)


def test_firing_that_is_made_good_within_the_bound_was_not_missed() -> None:
    fired = on_time()
    fired[20] += 29

    assert wrong(verdict(fired)) == (0, 0, 0)


def test_late_firing_from_before_the_play_is_not_held_against_anybody() -> None:
    fired = [at if at != 1002.01 else BEGIN + 1.9 for at in on_time()]

    assert fired != on_time()
    assert wrong(verdict(fired)) == (0, 0, 0)


def test_one_that_was_missed_makes_no_later_one_late() -> None:
    due = on_grid(PERIOD, BEGIN, END)
    fired = [at + 0.25 for at in due if at != due[20]]

    found = served(due, fired)

    assert set(found.lateness_s) == {0.25}
    assert found.without == [due[20]]


# --- what is due after each sending ---


def test_beat_that_drifts_misses_nothing() -> None:
    sent = [BEGIN - 1 + number * 2.05 for number in range(50)]

    assert wrong(sent_verdict([(at, at + 0.01) for at in sent])) == (0, 0, 0)


def test_beat_that_was_silent_for_four_periods_missed_three() -> None:
    sent = [BEGIN - 1 + number * 2 for number in range(51) if number not in {20, 21, 22}]

    assert wrong(sent_verdict([(at, at + 0.01) for at in sent])) == (3, 0, 0)


def test_beat_that_stopped_for_good_missed_the_rest() -> None:
    sent = [BEGIN - 1 + number * 2 for number in range(26)]

    counts = sent_verdict([(at, at + 0.01) for at in sent])
    assert counts["missed"] >= 24


def test_gap_of_less_than_two_periods_is_in_favour_of_who_is_judged() -> None:
    assert after_each(2, [0.0, 3.9, 5.9], 6.5) == [0.0, 2.0, 5.9]


def test_two_beats_fire_everything_twice() -> None:
    sent = [BEGIN - 1 + number * 2 for number in range(51)]
    messages = [(at + by, at + by + 0.01) for at in sent for by in (0, 1.01)]

    missed, doubled, phantom = wrong(sent_verdict(messages))
    assert (missed, phantom) == (0, 0)
    assert doubled >= 49


def test_messages_that_waited_for_a_worker_were_late_and_neither_missed_nor_doubled() -> None:
    sent = [BEGIN - 1 + number * 2 for number in range(51)]
    held = [(at, max(at, 1056.5) + 0.01 if 1050 < at < 1056.5 else at + 0.01) for at in sent]

    assert wrong(sent_verdict(held)) == (0, 0, 0)


def test_message_that_never_ran_was_missed() -> None:
    sent = [BEGIN - 1 + number * 2 for number in range(51)]
    messages = [(at, at + 0.01) for at in sent if at != sent[20]]

    assert wrong(sent_verdict(messages)) == (1, 0, 0)
    assert wrong(sent_verdict([each for each in messages if each[0] != sent[21]])) == (2, 0, 0)


def test_message_that_ran_twice_is_doubled() -> None:
    sent = [BEGIN - 1 + number * 2 for number in range(51)]
    messages = [(at, at + 0.01) for at in sent]

    assert wrong(sent_verdict([*messages, (sent[20], sent[20] + 12)])) == (0, 1, 0)


def test_longest_silence_is_beyond_the_period() -> None:
    fired = [at for at in on_time() if not 1050 < at < 1060]
    lines = [f"{NAME} {at} - 1" for at in fired]

    assert judged(played(lines), {NAME: PERIOD}, anchored=True)["longest_silence_s"] == pytest.approx(10.0)


def test_torn_last_line_is_left_out() -> None:
    assert read(["s2-00 1.5 - 7", "s2-01 2.5 1.25 8", "s2-0"]) == [
        Line("s2-00", 1.5, None, 7),
        Line("s2-01", 2.5, 1.25, 8),
    ]


# --- the supervisor ---


def test_process_that_ends_by_itself_is_counted_and_begins_again(tmp_path: Path) -> None:
    seat = Seat("node", [sys.executable, "-c", "input()"], {}, tmp_path)
    try:
        seat.step(100.0)
        seat.told("end")
        first = seat.ended(30)
        seat.step(101.0)
        seat.step(101.0 + BACK_S / 2)
        between = seat.alive
        seat.step(101.0 + BACK_S)

        assert first == 0
        assert not between
        assert seat.alive
        assert (seat.exits, seat.kills) == (1, 0)
        seat.kill(103.0)
        assert (seat.exits, seat.kills) == (1, 1)
    finally:
        seat.close()


# --- the page, and the real thing ---


def test_page_names_everybody_with_the_settings() -> None:
    page = re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))

    for kind in KINDS:
        assert kind.title in page
        assert f"`{kind.name}`" in page
        assert kind.settings in page
    for fault in FAULTS:
        assert fault in page


@pytest.mark.parametrize("kept", ["faults", "calm"])
def test_tables_of_the_page_are_those_of_the_data(kept: str) -> None:
    page = PAGE.read_text(encoding="utf-8")

    lines = table(DATA, kept)
    assert len(lines) == 2 + len(KINDS)
    assert "\n".join(lines) in page


@pytest.fixture
def servers() -> Iterator[None]:
    mine = SERVERS.folder is None
    if mine:
        SERVERS.own()
    yield
    if mine:
        SERVERS.leave()


@pytest.mark.long
@pytest.mark.parametrize(("name", "doubles"), [("onebeat-redis", False), ("apscheduler-redis", True)])
def test_two_processes_in_a_short_play(name: str, doubles: bool, tmp_path: Path, servers: None) -> None:
    kind = BY_NAME[name]
    slots = [slot for slot in plan(1, 80) if slot.kind != "server restarted"][:2]

    seen = play(kind, tmp_path, 30, slots, print)

    found = judged(seen, SCHEDULES, anchored=kind.anchored)["counts"]
    assert found["owed"] > 0
    assert (found["doubled"] > 0) == doubles
    assert found["missed"] == 0
