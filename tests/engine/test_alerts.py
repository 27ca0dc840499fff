"""The dead man's alert: what did not start or finish in time is said, once, by whoever is alive."""

from __future__ import annotations

import pytest
from tests.engine.lab import START, Lab, seconds

from onebeat.core.errors import BrokenDocument
from onebeat.core.model import Policy
from onebeat.engine import alerts as module
from onebeat.engine.alerts import Alerts, overdue
from onebeat.engine.metrics import Metrics


@pytest.fixture
def lab() -> Lab:
    return Lab()


def scanner(lab: Lab, name: str = "n1") -> Alerts:
    return Alerts(lab.store, lab.clock, holder=name)


def test_the_rule_is_the_limit_and_not_before(lab: Lab) -> None:
    lab.put("a")
    lab.clock.advance(seconds(60))
    lab.node().dispatcher.step()
    run = lab.runs("a")[0]
    policy = Policy(alert_after=seconds(10))

    assert overdue(policy, run, run.due_at + seconds(10)) is None
    assert "not started" in (overdue(policy, run, run.due_at + seconds(10.001)) or "")
    assert overdue(Policy(), run, run.due_at + seconds(1e6)) is None


def test_seed_11_what_did_not_start_in_time_is_said_within_one_scan(lab: Lab) -> None:
    dispatcher_only = lab.node()  # the workers are all dead
    lab.put("a", alert_after=seconds(20))
    metrics = Metrics()
    alerts = Alerts(lab.store, lab.clock, holder="n1", metrics=metrics)
    lab.clock.advance(seconds(60))
    dispatcher_only.dispatcher.step()
    said_at = None
    while said_at is None and lab.now() < START + seconds(200):
        lab.clock.set(alerts.step())
        if lab.events("run.overdue"):
            said_at = lab.now()

    assert said_at is not None
    assert said_at - (START + seconds(60 + 20)) <= 2 * module.SCAN_EVERY
    (event,) = lab.events("run.overdue")
    assert (event.run_id, event.actor) == (lab.runs("a")[0].id, "n1")
    assert "not started" in event.reason
    assert metrics.value("onebeat_alerts_total", "a") == 1


def test_what_did_not_finish_in_time_is_said_with_its_holder(lab: Lab) -> None:
    node = lab.node("busy")
    lab.put("a", alert_after=seconds(20))
    lab.pass_time(60 + 21, node)

    scanner(lab).step()

    assert "attempt 1 runs on busy" in lab.events("run.overdue")[0].reason


def test_what_ended_in_time_is_not_said(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", alert_after=seconds(20))
    lab.pass_time(60, node)
    node.puppet.end(lab.runs("a")[0].id)
    node.worker.step()

    lab.clock.advance(seconds(30))
    scanner(lab).step()

    assert lab.events("run.overdue") == []


def test_an_alert_is_said_once_by_any_number_of_nodes_and_after_restarts(lab: Lab) -> None:
    lab.put("a", alert_after=seconds(20))
    lab.clock.advance(seconds(60))
    lab.node().dispatcher.step()
    lab.clock.advance(seconds(30))
    first, second = scanner(lab, "n1"), scanner(lab, "n2")

    for alerts in (first, second, first, scanner(lab, "n1 again")):
        alerts.step()
        lab.clock.advance(seconds(1))

    assert len(lab.events("run.overdue")) == 1


def test_what_was_said_is_not_asked_for_again(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", alert_after=seconds(20))
    lab.clock.advance(seconds(60))
    node.dispatcher.step()
    lab.clock.advance(seconds(30))
    alerts = Alerts(node.store, lab.clock, holder="n1")
    alerts.step()
    node.store.calls.clear()

    lab.clock.advance(module.SCAN_EVERY)
    alerts.step()

    assert node.store.calls == ["now", "runs"]


def test_a_backlog_is_scanned_a_page_at_a_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    names = [f"s{n}" for n in range(5)]
    for name in names:
        lab.put(name, alert_after=seconds(20))
    lab.clock.advance(seconds(60))
    lab.node().dispatcher.step()
    lab.clock.advance(seconds(30))
    alerts = scanner(lab)

    waits = []
    for _ in range(3):
        wake_at = alerts.step()
        waits.append(wake_at - lab.now())
        lab.clock.set(wake_at)

    assert {event.schedule for event in lab.events("run.overdue")} == set(names)
    assert waits == [module.PAGE_PAUSE, module.PAGE_PAUSE, module.SCAN_EVERY]


def test_a_definition_that_does_not_decode_stops_no_other_alert(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad", "good"):
        lab.put(name, alert_after=seconds(20))
    lab.clock.advance(seconds(60))
    lab.node().dispatcher.step()
    lab.clock.advance(seconds(30))
    real, bad = lab.store.definition, lab.store.owing(["bad"])[0][0].id

    def definition(schedule_id: int, number: int) -> object:
        if schedule_id == bad:
            raise BrokenDocument("no JSON at 7")
        return real(schedule_id, number)

    monkeypatch.setattr(lab.store, "definition", definition)
    scanner(lab).step()

    assert [event.schedule for event in lab.events("run.overdue")] == ["good"]
