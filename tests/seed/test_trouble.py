"""Rows 12, 37, 69 and 82: what is wrong is shown, set aside alone, or cannot be asked for."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from tests.seed.cluster import BODY, HOUR, MINUTE, SECOND, T0, Cluster, every

import onebeat
from onebeat import Definition, InvalidInput, Onebeat
from onebeat.cli import main
from onebeat.core.definition import BOUNDS, checked_definition
from onebeat.core.model import CatchUp, OnLost, Overlap, Policy, RunState, Target
from onebeat.core.triggers import registry
from onebeat.core.triggers.protocol import Trigger
from onebeat.engine.dispatcher import PARK_AFTER

pytestmark = pytest.mark.slow

# --- 12: the audit ----------------------------------------------------------------------------------

LONG_AGO = datetime(2026, 1, 5, 12, tzinfo=UTC)
MEDDLING = {
    "nothing": "",
    "a lost run": "DELETE FROM onebeat_runs WHERE id = 'a@20260105T120300Z'",
    "a lost skip": "DELETE FROM onebeat_events WHERE kind = 'occurrence.skipped'",
    "an invented run": "UPDATE onebeat_runs SET occurrence_at = occurrence_at + 1 WHERE id LIKE 'a@%0300Z'",
    "a mark that ran ahead": "UPDATE onebeat_schedules SET settled_until = settled_until + 120000000",
    "a mark that was set back": "UPDATE onebeat_schedules SET settled_until = settled_until - 120000000",
    "an early fire": "UPDATE onebeat_runs SET created_at = due_at - 1 WHERE id LIKE 'a@%0300Z'",
}


def audited(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Call the command, as a person would; return its exit status and its document."""
    url = f"sqlite:///{cluster.place}/ledger.db"
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["--url", url, "audit", "--until", cluster.now.isoformat(), "--json"])
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("what", MEDDLING)
@pytest.mark.of_the_file
def test_seed_12_the_audit_ends_with_an_error_unless_every_expected_occurrence_is_there_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    cluster = Cluster(tmp_path, at=LONG_AGO)
    cluster.put("a", every(MINUTE, LONG_AGO), overlap="allow")
    cluster.put("b", every(MINUTE, LONG_AGO), grace=SECOND)
    cluster.node()
    cluster.run(4 * MINUTE, every=MINUTE)
    cluster.clock.advance(6 * MINUTE + 10 * SECOND)  # b's are too late by now, a's fold
    cluster.run(SECOND)
    with apsw.Connection(str(tmp_path / "ledger.db")) as db:
        db.execute(MEDDLING[what])
    db.close()

    status, report = audited(cluster, capsys)

    amiss = report["gaps"] + report["extras"] + report["early"] + report["set_back"]
    assert (status == 0, amiss == 0, report["right"]) == ((what == "nothing"),) * 3
    if what == "nothing":
        listed = {each["schedule"]: each["expected"] for each in report["schedules"]}
        assert listed == {"a": 10, "b": 10}
        assert (report["fired"], report["folded"], report["skipped"]) == (9, 5, {"misfire": 6})
    cluster.close()


# --- 37: a target that nobody has -------------------------------------------------------------------


def test_seed_37_a_target_that_no_live_node_can_resolve_is_flagged_at_once(cluster: Cluster) -> None:
    cluster.node()
    cluster.beat.schedules.put("first", every(HOUR), BODY)
    cluster.run(10 * SECOND)  # nodes look for new targets all the time

    known = cluster.beat.schedules.put("known", every(HOUR), BODY)
    unknown = cluster.beat.schedules.put("unknown", every(HOUR), Target(kind="seed", address="no:where"))
    unreachable = cluster.beat.schedules.put("unreachable", every(HOUR), "no_such_module:function")
    with pytest.raises(InvalidInput):
        cluster.beat.schedules.put("misfit", every(HOUR), "tests.seed.test_trouble:audited", args=(1, 2, 3))

    assert not [warning for warning in known.warnings if "no live node" in warning]
    assert [warning for warning in unknown.warnings if "no live node has announced seed:no:where" in warning]
    assert [warning for warning in unreachable.warnings if "unverified" in warning]
    assert cluster.beat.schedules.show("unknown").warnings


def test_seed_37_its_runs_are_parked_seen_and_kept_until_a_node_comes_that_can(cluster: Cluster) -> None:
    first = cluster.node()
    cluster.put("a", every(24 * HOUR, T0 + MINUTE), address="rare")
    cluster.run(MINUTE + PARK_AFTER + 5 * SECOND)

    run = cluster.the_run()
    assert (run.state, run.reason) == (RunState.PARKED, "no live node can run seed:rare")
    assert [event.run_id for event in cluster.events("run.parked")] == [run.id]
    assert first.metrics.value("onebeat_parked_total") == 1
    assert cluster.store.counts()["runs_parked"] == 1

    cluster.run(20 * HOUR, every=HOUR)
    assert cluster.the_run() == run
    cluster.node(knows=("rare",))
    cluster.run(10 * SECOND)

    assert cluster.the_run().state is RunState.SUCCEEDED
    assert [event.run_id for event in cluster.events("run.unparked")] == [run.id]
    cluster.prove()


# --- 69: one bad schedule ---------------------------------------------------------------------------


class Hostile:
    """A trigger from outside whose every answer is an error."""

    zoned = False
    late_start = False

    def after(self, t: datetime, /) -> datetime | None:
        if t < T0:
            return T0
        raise ZeroDivisionError("a bug in somebody's trigger")

    def before(self, t: datetime, /) -> datetime | None:
        raise ZeroDivisionError("a bug in somebody's trigger")

    def count(self, after: datetime, until: datetime, /) -> int:
        raise ZeroDivisionError("a bug in somebody's trigger")


BAD = {
    "a trigger that is no JSON": ("trigger", '{"kind": ', "does not decode"),
    "a bad cron text": ("trigger", '{"fields":{"expression":"99 * * * *"},"kind":"cron"}', "99"),
    "a trigger from the future": ("trigger", '{"fields":{},"kind":"tidal"}', "tidal"),
    "a trigger that raises": ("trigger", '{"fields":{},"kind":"hostile"}', "ZeroDivisionError"),
    "a policy that nobody knows": ("policy", '{"overlap":"sometimes"}', "overlap"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.of_processes
def test_seed_69_a_bad_schedule_is_set_aside_alone_with_the_reason(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    hostile = registry.Kind(build=lambda fields: hostile_trigger())
    monkeypatch.setitem(registry._KINDS, "hostile", hostile)
    good = [f"good-{i}" for i in range(5)]
    for name in ("a-bad-one", *good):
        cluster.put(name, every(MINUTE), overlap="allow")
    column, text, why = BAD[what]
    cluster.spoil("a-bad-one", column, text)
    for _ in range(2):
        cluster.node()
    cluster.run(3 * MINUTE, every=MINUTE / 4)

    for name in good:
        assert cluster.fired(name) == [T0 + MINUTE, T0 + 2 * MINUTE, T0 + 3 * MINUTE]
    row = cluster.row("a-bad-one")
    assert row.quarantined is not None
    assert why in row.quarantined
    (event,) = cluster.events("schedule.quarantined")
    assert (event.schedule, event.reason) == ("a-bad-one", row.quarantined)
    assert cluster.events("node.step_failed") == []

    # Nothing of it was deleted or decided: mended, it owes what it owed.
    cluster.edit("a-bad-one", trigger=every(MINUTE), overlap="allow", catch_up="all")
    cluster.run(MINUTE, every=MINUTE / 4)
    assert cluster.fired("a-bad-one") == [T0 + i * MINUTE for i in (1, 2, 3, 4)]


def hostile_trigger() -> Trigger:
    trigger: Trigger = Hostile()
    return trigger


def test_seed_69_missing_code_stops_no_neighbour(cluster: Cluster) -> None:
    cluster.node(slots=2)
    for i in range(20):
        cluster.put(f"gone-{i:02}", every(MINUTE), address="gone", overlap="allow")
    cluster.put("here", every(MINUTE), overlap="allow")
    cluster.run(3 * MINUTE, every=SECOND * 5)

    assert cluster.began("here") == [T0 + MINUTE, T0 + 2 * MINUTE, T0 + 3 * MINUTE]
    states = Counter(run.state for run in cluster.runs(None) if run.schedule != "here")
    assert states.total() == 60
    assert states.keys() <= {RunState.PARKED, RunState.READY}
    assert not cluster.events("schedule.quarantined")


# --- 82: no setting turns the guarantee off ---------------------------------------------------------

EXTREMES: list[dict[str, Any]] = [
    {"overlap": "allow", field: value}
    for field in BOUNDS
    for value in (BOUNDS[field].least, BOUNDS[field].most)
]
CHOICES: list[dict[str, Any]] = [
    {"catch_up": catch_up.value, "overlap": overlap.value, "on_lost": on_lost.value, "grace": 30 * SECOND}
    for catch_up in CatchUp
    for overlap in Overlap
    for on_lost in OnLost
]


def test_seed_82_whatever_a_policy_says_three_dispatchers_settle_each_occurrence_once(
    cluster: Cluster,
) -> None:
    wanted: dict[str, Definition] = {}
    for number, options in enumerate([*EXTREMES, *CHOICES]):
        policy = Policy(**options)
        if policy.backoff > policy.backoff_max:
            policy = msgspec.structs.replace(policy, backoff_max=policy.backoff)
        definition = Definition(trigger=every(MINUTE), target=BODY, policy=policy)
        wanted[f"s{number}"] = checked_definition(definition)
    cluster.beat.schedules.put_all(wanted)
    nodes = [cluster.node(roles=("dispatcher",)) for _ in range(3)]
    worker = cluster.node(roles=("worker",))
    for hook_at, overtaken_by in ((nodes[0], nodes[1]), (nodes[1], nodes[2])):
        hook_at.hooks.append(
            lambda moment, other=overtaken_by: (
                other.step() if moment.verb == "settle" and not moment.after else None
            )
        )
    for _ in range(4):
        cluster.clock.advance(MINUTE)
        for node in (*nodes, worker, worker):
            node.step()

    report = cluster.beat.audit()
    assert report.right, [each for each in report.schedules if not each.right]
    assert nodes[0].metrics.value("onebeat_decisions_stale_total") > 0
    began = Counter(effect.run_id for effect in cluster.effects)
    assert set(began.values()) == {1}


# Each of these names was looked at: it says what runs, where, or how patiently, and never whether a version
# is compared, a token is asked for, or a commit reaches the disk. A new setting has to be looked at as well.
SETTINGS = {
    "onebeat.Onebeat": "url zone owner revision modules shell http actor clock store",
    "onebeat.Onebeat.service": "roles queues threads coroutines processes http_calls lease grace share "
    "outlets resend",
    "environment": "ONEBEAT_URL ONEBEAT_APP ONEBEAT_ZONE ONEBEAT_LANG ONEBEAT_MODULES ONEBEAT_ROLES "
    "ONEBEAT_QUEUES ONEBEAT_THREADS ONEBEAT_COROUTINES ONEBEAT_PROCESSES ONEBEAT_SHELL ONEBEAT_HTTP_ALLOW "
    "ONEBEAT_HTTP_CALLS ONEBEAT_LEASE ONEBEAT_GRACE ONEBEAT_TRACEBACK",
    "handed to commands": "ONEBEAT_RUN_ID ONEBEAT_SCHEDULE ONEBEAT_OCCURRENCE ONEBEAT_ATTEMPT ONEBEAT_TOKEN",
    "policy": "catch_up catch_up_max grace overlap max_running queue_max start_within timeout attempts "
    "backoff backoff_max retry_on on_lost spread priority exclusive alert_after report_success "
    "transactional keep_runs keep_days",
}


def test_seed_82_every_setting_was_looked_at_and_none_is_about_the_guarantee() -> None:
    assert onebeat.__file__ is not None
    package = Path(onebeat.__file__).parent
    # The demo speaks to its own processes in words of its own.
    texts = [path.read_text(encoding="utf-8") for path in package.rglob("*.py") if path.parent.name != "demo"]
    named = {name for text in texts for name in re.findall(r"\bONEBEAT_[A-Z]+(?:_[A-Z]+)*\b", text)}

    handed = set(SETTINGS["handed to commands"].split())
    found = {
        "onebeat.Onebeat": set(inspect.signature(Onebeat).parameters),
        "onebeat.Onebeat.service": set(inspect.signature(Onebeat.service).parameters) - {"self"},
        "environment": named - handed,
        "handed to commands": named & handed,
        "policy": {field.name for field in msgspec.structs.fields(Policy)},
    }
    assert found == {place: set(names.split()) for place, names in SETTINGS.items()}


@pytest.mark.of_the_file
def test_seed_82_every_commit_reaches_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    opened: list[apsw.Connection] = []
    apsw.connection_hooks.append(opened.append)
    try:
        cluster = Cluster(tmp_path)
        cluster.put("a", every(MINUTE))
        cluster.node()
        full = 2
        assert [db.pragma("synchronous") for db in opened] == [full] * len(opened)
        assert len(opened) >= 2
        assert {db.pragma("journal_mode") for db in opened} == {"wal"}
    finally:
        apsw.connection_hooks.remove(opened.append)
    cluster.close()


def test_seed_82_what_only_looks_like_a_setting_is_refused() -> None:
    with pytest.raises((InvalidInput, TypeError)):
        Onebeat("memory://").declare("a", "0 9 * * *", BODY, lock_key=None)  # type: ignore[call-arg]  # on purpose
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"exactly_once": False}, Policy)
