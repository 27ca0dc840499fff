"""Rows 1, 3, 4, 8, 10 and 15: people may change anything at any instant."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace
from tests.seed.cluster import (
    BODY,
    DAY,
    HOUR,
    MICROSECOND,
    MINUTE,
    SECOND,
    T0,
    Cluster,
    every,
    ledger_at,
)
from tests.seed.processes import together

from onebeat import Conflict, Definition, Onebeat, interval
from onebeat.core import edits
from onebeat.core.messages import Answer, Edit
from onebeat.core.model import Load, Policy, Schedule, TriggerSpec
from onebeat.testing.faults import Moment, hooked

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]


def once_at(instant: datetime) -> TriggerSpec:
    return TriggerSpec(kind="once", fields={"at": instant.isoformat()})


# --- 1: an edit near the instant --------------------------------------------------------------------


def test_seed_01_an_edit_near_the_instant_neither_loses_nor_doubles_it(cluster: Cluster) -> None:
    seed, trials = 20261121, 1000
    draw = Random(seed)
    tick = 25 * SECOND / 1000
    nodes = [cluster.node(roles=("dispatcher",)) for _ in range(2)]
    instants = [T0 + (10 + i / 20) * SECOND + draw.randrange(10_000) * MICROSECOND for i in range(trials)]
    cluster.beat.schedules.put_all(
        {
            f"t{i}": Definition(trigger=once_at(at) if i % 2 else every(DAY, at), target=BODY)
            for i, at in enumerate(instants)
        }
    )
    cluster.put("other", every(DAY, T0 + HOUR))
    cuts: dict[int, datetime] = {}

    def edit(name: str, title: str, trial: int | None = None) -> None:
        written = cluster.beat.schedules.edit(name, title=title)
        if trial is not None and written.cut_at is not None:
            cuts[trial] = written.cut_at

    moments: list[tuple[datetime, float, object]] = []
    for i, at in enumerate(instants):
        offset = (-5 * SECOND, -SECOND, -MICROSECOND, 0 * SECOND, MICROSECOND, tick)[i % 6]
        itself = draw.random() < 0.7
        change = partial(edit, f"t{i}", f"new {i}", i) if itself else partial(edit, "other", f"of {i}")
        moments.append((at + offset, draw.random(), change))
        for _ in range(draw.choice((1, 1, 2))):
            near = draw.choice((draw.randrange(-2, 3), draw.randrange(60_000)))
            moments.append((at + near * MICROSECOND, draw.random(), draw.choice(nodes).step))

    for at, _, act in sorted(moments, key=lambda moment: moment[:2]):
        cluster.clock.set(max(at, cluster.now))
        act()  # type: ignore[operator]  # a step or an edit
    cluster.run(SECOND)

    runs = cluster.runs(None)
    assert Counter(run.schedule for run in runs) == Counter({f"t{i}": 1 for i in range(trials)}), seed
    for run in runs:
        trial = int(run.schedule[1:])
        assert run.occurrence_at == instants[trial]
        # What was due at or before the cut follows the old definition, what was due after it the new one.
        assert run.number == (2 if trial in cuts and cuts[trial] < instants[trial] else 1), seed
    assert cluster.beat.audit().right


# --- 3: reloading never postpones -------------------------------------------------------------------


def test_seed_03_restarting_every_second_never_moves_a_first_occurrence(cluster: Cluster) -> None:
    firsts = set()
    for _ in range(600):
        beat = Onebeat(store=cluster.store, clock=cluster.clock)
        beat.declare("long", interval(days=3), BODY)
        beat.declare("short", interval(minutes=11), BODY)
        beat.service(roles=("dispatcher",))  # a start reconciles what is declared
        firsts.add((cluster.row("long").next_at, cluster.row("short").next_at))
        cluster.node(roles=("dispatcher",)).step()
        cluster.nodes[-1].crash()
        cluster.clock.advance(SECOND)

    assert firsts == {(T0 + 3 * DAY, T0 + 11 * MINUTE)}


def test_seed_03_hourly_edits_never_move_a_three_day_interval(cluster: Cluster) -> None:
    cluster.node()
    cluster.beat.schedules.put("a", interval(days=3), BODY)
    for hour in range(73):
        if hour % 2:
            cluster.edit(title=f"hour {hour}")
        else:
            # As code does that puts what it wants at each start, without an anchor.
            cluster.beat.schedules.put("a", interval(days=3), BODY, if_exists="replace", title=f"hour {hour}")
        cluster.run(HOUR, every=HOUR)

    assert cluster.fired() == [T0 + 3 * DAY]
    cluster.prove()


# --- 4: many edits ----------------------------------------------------------------------------------


def retitled(row: Schedule, title: str, now: datetime) -> Edit:
    author = edits.Author(edit_id=f"{row.name}/{row.version}", cut_at=now)
    return edits.edit(row, Load(), replace(row.definition, title=title), author)


@pytest.mark.timeout(300)
def test_seed_04_a_hundred_edits_a_second_lose_double_and_delay_nothing(cluster: Cluster) -> None:
    cluster.node()
    watched = [f"w{i}" for i in range(10)]
    for i, name in enumerate(watched):
        # Half of them are due in the very instants of the edits.
        cluster.put(name, every(5 * SECOND, T0 + (i % 2) * 111_111 * MICROSECOND), overlap="allow")
    others = {f"o{i}": every(MINUTE, T0 + i * SECOND) for i in range(100)}
    policy = Policy(overlap="allow")  # type: ignore[arg-type]  # a word of the enum
    wanted = {name: Definition(trigger=when, target=BODY, policy=policy) for name, when in others.items()}
    rows = {each.schedule.name: each.schedule for each in cluster.beat.schedules.put_all(wanted)}
    accepted = 0
    for half in range(2 * 300):
        cluster.run(SECOND / 2)
        left = list(others)[50 * (half % 2) :][:50]
        while left:
            # A row that fired since it was read is read again by the refusal, as every editor does.
            answers = cluster.store.put([retitled(rows[name], f"{half}", cluster.now) for name in left])
            rows.update((answer.schedule.name, answer.schedule) for answer in answers if answer.schedule)
            accepted += sum(answer.answer is Answer.ACCEPTED for answer in answers)
            left = [
                name for name, each in zip(left, answers, strict=True) if each.answer is not Answer.ACCEPTED
            ]
        cluster.changed()
    cluster.run(SECOND)

    assert accepted == 100 * 300
    for name in watched:
        instants = cluster.fired(name)
        assert instants == [instants[0] + i * 5 * SECOND for i in range(len(instants))]
        assert len(instants) in (60, 61)
    cluster.prove()
    assert cluster.beat.audit(watched).lateness.p99_s == 0.0  # in virtual time a step takes none


# --- 8: two writers ---------------------------------------------------------------------------------


def test_seed_08_the_second_of_two_editors_is_told_of_the_conflict(cluster: Cluster) -> None:
    version = cluster.put("a", every(HOUR)).version
    first, second = cluster.beat, Onebeat(store=ledger_at(cluster.place, cluster.clock), clock=cluster.clock)

    first.schedules.edit("a", title="of the first", expected_version=version)
    with pytest.raises(Conflict):
        second.schedules.edit("a", tags=("of-the-second",), expected_version=version)
    found = second.schedules.show("a").schedule
    second.schedules.edit("a", tags=("of-the-second",), expected_version=found.version)

    definition = cluster.row().definition
    assert (definition.title, definition.tags) == ("of the first", ("of-the-second",))
    second.close()


def test_seed_08_no_update_is_lost_among_writers_on_threads(cluster: Cluster) -> None:
    cluster.put("a", every(HOUR))
    conflicts: Counter[int] = Counter()

    def write(writer: int) -> None:
        beat = Onebeat(store=ledger_at(cluster.place, cluster.clock), clock=cluster.clock)
        for number in range(10):
            while True:
                row = beat.schedules.show("a").schedule
                kwargs = {**row.definition.target.kwargs, f"k{writer}-{number}": writer}
                try:
                    beat.schedules.edit("a", kwargs=kwargs, expected_version=row.version)
                except Conflict:
                    conflicts[writer] += 1
                else:
                    break
        beat.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    row = cluster.row()
    assert len(row.definition.target.kwargs) == 40
    assert row.version == 1 + 40


@pytest.mark.parametrize("moment", ["edit between read and fire", "fire between read and edit"])
def test_seed_08_an_edit_in_the_instant_of_firing_leaves_one_definition_to_govern(
    cluster: Cluster, moment: str
) -> None:
    node = cluster.node(roles=("dispatcher",))
    cluster.put("a", every(HOUR, T0 + HOUR))
    cluster.clock.set(T0 + HOUR)
    happened = []

    def act_once(at: Moment) -> None:
        wanted = "settle" if moment == "edit between read and fire" else "put"
        if at.verb == wanted and not at.after and not happened:
            happened.append(at)
            if wanted == "settle":
                cluster.edit(title="new")
            else:
                node.step()

    node.hooks.append(act_once)
    editor = hooked(cluster.store, act_once)
    if moment == "edit between read and fire":
        node.step()
    else:
        Onebeat(store=editor, clock=cluster.clock).schedules.edit("a", title="new")
    cluster.step()

    assert happened
    assert cluster.fired() == [T0 + HOUR]
    assert cluster.the_run().number == 1  # due at the cut: the old definition's
    assert cluster.row().definition.title == "new"
    assert cluster.beat.audit().right


@pytest.mark.parametrize("cut_before", [True, False])
def test_seed_08_the_cut_says_which_definition_governs_an_edit_in_flight(
    cluster: Cluster, *, cut_before: bool
) -> None:
    node = cluster.node(roles=("dispatcher",))
    row = cluster.put("a", every(HOUR, T0 + HOUR))
    cut = T0 + HOUR - (MICROSECOND if cut_before else 0 * SECOND)
    author = edits.Author(edit_id="in-flight", cut_at=cut)
    ((row, load),) = cluster.store.owing(["a"])
    edit = edits.edit(row, load, replace(row.definition, policy=Policy(priority=7)), author)
    cluster.clock.set(T0 + HOUR + 500 * MICROSECOND)

    (answer,) = cluster.store.put([edit])
    node.step()

    assert answer.answer is Answer.ACCEPTED
    assert cluster.fired() == [T0 + HOUR]
    assert cluster.the_run().priority == (7 if cut_before else 0)


# --- 10: nobody is told to keep away ----------------------------------------------------------------

ADVICE = re.compile(
    r"(avoid|do not|don't|refrain|should not|keep away)\b[^.]{0,80}\b(edit|chang|updat|modif)[^.]{0,80}"
    r"\b(close to|near|shortly before|just before|around|about to)\b",
    re.IGNORECASE,
)


def test_seed_10_no_page_advises_against_edits_near_the_due_time() -> None:
    assert ADVICE.search("Avoid editing a schedule close to its due time.")
    texts = [TOP / "README.md", *(TOP / "docs").rglob("*.md"), *(TOP / "src").rglob("*.py")]

    import onebeat

    assert onebeat.__file__ is not None
    package = Path(onebeat.__file__).parent
    texts += package.rglob("*.py")
    found = {path: ADVICE.search(path.read_text(encoding="utf-8").replace("\n", " ")) for path in texts}

    assert len(found) > 50
    assert not [path for path, advice in found.items() if advice]


# --- 15: one row for one name -----------------------------------------------------------------------


@pytest.mark.of_processes
def test_seed_15_ten_creators_of_one_name_leave_one_row_and_nine_defined_answers(cluster: Cluster) -> None:
    answers = together(10, cluster.place, "create")

    assert Counter(each["error"] for each in answers) == {"written": 1, "conflict": 9}
    assert Counter(each["ignore"] for each in answers) == {"written": 1, "unchanged": 9}
    assert Counter(each["replace"] for each in answers) == {"written": 10}
    rows = {row.name: row for row in cluster.beat.schedules.list()}
    assert sorted(rows) == ["error", "ignore", "replace"]
    assert [rows[name].version for name in sorted(rows)] == [1, 1, 10]
    titles = [change.definition.title for change in cluster.beat.schedules.trail("replace")]
    assert sorted(titles) == sorted(f"of {number}" for number in range(10))
    assert rows["replace"].definition.title == titles[-1]
