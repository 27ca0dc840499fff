"""Counters and histograms: what they count, what they print, and that the page about them is true."""

from __future__ import annotations

import re
from pathlib import Path

from onebeat.engine.metrics import OTHERS, SCHEDULES_MAX, TABLE, Metrics

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"


def test_seed_28_run_time_and_lateness_are_exported_by_schedule() -> None:
    metrics = Metrics()
    for seconds in (0.002, 0.01, 7200.0):
        metrics.observe("onebeat_lateness_seconds", "a", seconds)
        metrics.observe("onebeat_run_seconds", "b", seconds)

    lines = metrics.text().splitlines()

    assert 'onebeat_lateness_seconds_bucket{schedule="a",le="0.005"} 1' in lines
    assert 'onebeat_lateness_seconds_bucket{schedule="a",le="0.01"} 2' in lines
    assert 'onebeat_lateness_seconds_bucket{schedule="a",le="3600.0"} 2' in lines
    assert 'onebeat_lateness_seconds_bucket{schedule="a",le="+Inf"} 3' in lines
    assert 'onebeat_run_seconds_count{schedule="b"} 3' in lines
    assert 'onebeat_run_seconds_sum{schedule="b"} 7200.012000' in lines


def test_every_line_has_the_form_that_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.count("onebeat_attempts_total", "failed", amount=2)
    metrics.count("onebeat_alerts_total", 'a "quoted" \\ name\n')
    metrics.observe("onebeat_run_seconds", "a", 1)
    sample = re.compile(r'[a-z_]+(\{[a-z]+="(\\.|[^"\\\n])*"(,[a-z]+="(\\.|[^"\\\n])*")*\})? [0-9.e+]+')

    for line in metrics.text().splitlines():
        assert line.startswith(("# HELP onebeat_", "# TYPE onebeat_")) or sample.fullmatch(line), line
    assert r'schedule="a \"quoted\" \\ name\n"' in metrics.text()


def test_what_has_not_happened_is_nought_and_not_absent_where_there_are_no_labels() -> None:
    assert "onebeat_takeovers_total 0" in Metrics().text().splitlines()


def test_memory_has_a_bound_however_many_schedules_there_are() -> None:
    metrics = Metrics()
    for n in range(SCHEDULES_MAX + 50):
        metrics.observe("onebeat_run_seconds", f"s{n}", 1)
        metrics.count("onebeat_alerts_total", f"s{n}")

    assert metrics.value("onebeat_run_seconds", OTHERS) == 50
    assert metrics.value("onebeat_alerts_total", OTHERS) == 50


def test_the_page_lists_every_metric_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)

    listed = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows}
    assert listed == {name: (metric.kind, metric.labels, metric.help) for name, metric in TABLE.items()}
