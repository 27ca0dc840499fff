"""The command line: each command, in words and as JSON, and how each fails."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from tests.surfaces.stage import MINUTE, at, close

from onebeat import interval
from onebeat.cli import main as cli_main
from onebeat.cli.main import COMMANDS, Commands, cli, run
from onebeat.cli.session import Session
from onebeat.cli.wanted import WORDS
from onebeat.cli.words import cron_texts, cut, table
from onebeat.core import errors
from onebeat.core.definition import PolicyOptions, define
from onebeat.core.durations import duration, span
from onebeat.core.errors import InvalidInput, OnebeatError
from onebeat.core.model import Node, as_json
from onebeat.core.publicdays import announced_until
from onebeat.core.triggers import cron, workdays
from onebeat.testing.virtual import VirtualOnebeat

CLOSE = "tests.surfaces.stage:close"
REPORT = "tests.surfaces.stage:report"
FAIL = "tests.surfaces.stage:fail"


class Terminal:
    """Types commands at one app, and keeps what was said."""

    def __init__(self, beat: VirtualOnebeat, capsys: pytest.CaptureFixture[str]) -> None:
        self.beat = beat
        self.said = self.complained = ""
        self._capsys = capsys

    def __call__(self, *words: str) -> int:
        self._capsys.readouterr()
        status = run(list(words), Session(self.beat))
        self.said, self.complained = self._capsys.readouterr()
        return status

    def read(self, *words: str, status: int = 0) -> Any:
        """Type a command with --json, which must end with a status, and return what it prints."""
        assert self(*words, "--json") == status, self.complained
        return json.loads(self.said)


@pytest.fixture
def terminal(onebeat: VirtualOnebeat, capsys: pytest.CaptureFixture[str]) -> Terminal:
    onebeat.allow(close.__module__)
    return Terminal(onebeat, capsys)


def commands(group: click.Group, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= commands(command, (*above, name))
        else:
            found[*above, name] = command
    return found


EVERY = commands(cli)


# --- every command --------------------------------------------------------------------------------------


def test_these_are_the_commands() -> None:
    assert {" ".join(words) for words in EVERY} == {
        *("serve", "apply", "diff", "export", "hold", "release", "why", "preview", "audit"),
        *("doctor", "migrate", "demo", "node list", "node ready", "inbox", "backfill"),
        *(f"run {verb}" for verb in ("list", "show", "logs", "cancel", "retry")),
        *(f"schedule {verb}" for verb in ("list", "show", "add", "edit", "pause", "resume", "delete", "run")),
        *("schedule skip-next", "import crontab", "import celery-beat", "import redbeat"),
        "import django-celery-beat",
    }


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_each_command_has_json_and_an_example_of_itself(words: tuple[str, ...]) -> None:
    command = EVERY[words]
    options = {option for parameter in command.params for option in parameter.opts}

    assert command.help is not None
    assert f"Example: onebeat {' '.join(words)}" in " ".join(command.help.split())
    assert "--json" in options or words == ("export",)


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_each_option_says_what_it_does(words: tuple[str, ...]) -> None:
    silent = [
        parameter.name
        for parameter in EVERY[words].params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert silent == []


@pytest.mark.slow
def test_help_lists_every_command_and_imports_none() -> None:
    program = (
        "import sys; from onebeat.cli.main import run; from onebeat.cli.session import Session;"
        "status = run(['--help'], Session());"
        "assert not [name for name in sys.modules if name.startswith('onebeat.cli.') and "
        "name.rpartition('.')[2] not in ('main', 'session')];"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    for name, (_, what) in COMMANDS.items():
        assert name in done.stdout
        assert what in done.stdout


def test_every_policy_field_has_an_option_on_add_and_edit() -> None:
    assert WORDS.keys() == PolicyOptions.__annotations__.keys()
    for words in (("schedule", "add"), ("schedule", "edit")):
        options = {option for parameter in EVERY[words].params for option in parameter.opts}
        assert {f"--{name.replace('_', '-')}" for name in WORDS} <= options


# --- how commands fail ----------------------------------------------------------------------------------


def every_error(kind: type[OnebeatError] = OnebeatError) -> list[type[OnebeatError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in every_error(below))]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: str(kind.__name__))
def test_an_error_is_one_message_with_its_code_and_status(
    kind: type[OnebeatError], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise kind("what happened; why; what to do")

    monkeypatch.setattr(terminal.beat, "doctor", fails)

    assert terminal("doctor") == kind.exit_status != 0
    assert terminal.complained == f"onebeat: what happened; why; what to do [{kind.code}]\n"
    assert terminal.said == ""
    terminal("doctor", "--json")
    assert json.loads(terminal.complained) == {
        "error": {"code": kind.code, "message": "what happened; why; what to do"}
    }


def test_codes_are_one_to_a_kind_of_error() -> None:
    codes = [kind.code for kind in every_error()]

    assert len(set(codes)) == len(codes)
    assert set(every_error()) == {
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, OnebeatError)
    }


def test_what_nobody_expected_is_one_message_too(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(terminal.beat, "doctor", fails)

    assert terminal("doctor") == 1
    assert terminal.complained.startswith("onebeat: ZeroDivisionError: by nought")
    assert "Traceback" not in terminal.complained
    monkeypatch.setenv("ONEBEAT_TRACEBACK", "1")
    terminal("doctor")
    assert "Traceback" in terminal.complained


def test_ctrl_c_ends_with_130(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal.beat, "doctor", interrupted)
    assert terminal("doctor") == 130


def test_a_word_that_is_no_command_is_told_with_the_nearest(terminal: Terminal) -> None:
    assert terminal("schedul") == 2
    assert "did you mean 'schedule'" in terminal.complained


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("schedule", "show", "nobody"), 3, "[not_found]"),
        (("schedule", "add", "a", "--cron", "0 9 * *", "--call", CLOSE), 2, "[invalid_trigger]"),
        (("schedule", "add", "a", "--call", CLOSE), 2, "--cron"),
        (("schedule", "add", "a", "--cron", "0 9 * * *"), 2, "--call"),
        (("schedule", "add", "a", "--cron", "0 9 * * *", "--every", "5m", "--call", CLOSE), 2, "only one"),
        (("schedule", "add", "a", "--rrule", "FREQ=DALY", "--call", CLOSE), 2, "did you mean 'DAILY'"),
        (("schedule", "add", "a", "--rrule", "FREQ=DAILY", "--days", "all", "--call", CLOSE), 2, "--days"),
        (("schedule", "add", "a", "--every", "5m", "--gap", "skip", "--call", CLOSE), 2, "--gap"),
        (("schedule", "add", "a", "--cron", "0 9 * * *", "--anchor", "now", "--call", CLOSE), 2, "--anchor"),
        (("schedule", "add", "a", "--cron", "0 9 * * *", "--call", CLOSE, "--args", "{}"), 2, "a list"),
        (("schedule", "add", "a", "--cron", "0 9 * * *", "--call", CLOSE, "--args", "[1"), 2, "no JSON"),
        (("schedule", "add", "a", "--cron", "0 9 * * *", "--call", CLOSE, "--grace", "soon"), 2, "duration"),
        (("schedule", "add", "a", "--every", "5m", "--shell", "true", "--call", CLOSE), 2, "only one"),
        (("schedule", "add", "a", "--every", "5m", "--shell", "true", "--method", "GET"), 2, "with --http"),
        (("schedule", "add", "a", "--every", "5m", "--shell", "true", "--args", "[1]"), 2, "with --call"),
        (("schedule", "add", "a", "--every", "5m", "--process", CLOSE, "--call", CLOSE), 2, "only one"),
        (("schedule", "add", "a", "--every", "5m", "--process", "close"), 2, "module:function"),
        (("schedule", "add", "a", "--every", "5m", "--process", CLOSE, "--ok", "200"), 2, "with --http"),
        (("schedule", "add", "a", "--every", "5m", "--shell", "echo 'a"), 2, "split into words"),
        (("schedule", "add", "a", "--every", "5m", "--shell", ""), 2, "no command"),
        (("schedule", "add", "a", "--every", "5m", "--shell", "env", "--env", "A"), 2, "NAME=VALUE"),
        (("schedule", "add", "a", "--every", "5m", "--http", "example.org"), 2, "https://"),
        (("schedule", "add", "a", "--every", "5m", "--shell", "true", "--unguarded"), 2, "with --celery"),
        (
            ("schedule", "add", "a", "--every", "5m", "--celery", "t", "--options", '{"args": [1]}'),
            2,
            "beside",
        ),
        (("schedule", "add", "a", "--every", "5m", "--celery", "t", "--unguarded"), 2, "overlap='allow'"),
        (("schedule", "add", "a", "--every", "5m", "--http", "http://a", "--header", "A"), 2, "NAME: VALUE"),
        (("schedule", "add", "a", "--every", "5m", "--http", "http://a", "--ok", "fine"), 2, "no status"),
        (("schedule", "add", "a", "--trigger", '{"kind":"x"}', "--call", CLOSE), 2, "[invalid_trigger]"),
        (("schedule", "add", "a", "--trigger", '{"sort":"x"}', "--call", CLOSE), 2, "[invalid_input]"),
        (("schedule", "edit", "a"), 2, "nothing of a would change"),
        (("schedule", "delete", "a"), 2, "--yes"),
        (("run", "show", "a@x"), 3, "[not_found]"),
        (("run", "cancel"), 2, "say which runs"),
        (("run", "retry", "--state", "failed"), 2, "say which runs"),
        (("run", "list", "--state", "faild"), 2, "did you mean 'failed'"),
        (("run", "list", "--since", "yesterday"), 2, "no instant"),
        (("why", "nobody", "--at", "now"), 3, "[not_found]"),
        (("why", "nobody"), 2, "--at"),
        (("apply",), 2, "--app"),
        (("preview", "0 9 * * *", "-n", "0"), 2, "-n"),
        (("serve", "--roles", "boss"), 2, "dispatcher, worker"),
        (("serve", "--share", "4/3"), 2, "--share"),
        (("serve", "--lease", "soon"), 2, "--lease"),
    ],
)
def test_what_cannot_be_meant_ends_with_its_status(
    terminal: Terminal, words: tuple[str, ...], status: int, said: str
) -> None:
    assert terminal(*words) == status
    assert said in terminal.complained
    assert "Traceback" not in terminal.complained


def test_a_command_that_served_gives_its_caller_the_logging_back(terminal: Terminal) -> None:
    root = logging.getLogger()
    before = [*root.handlers], root.level

    terminal("serve", "--roles", "boss")

    assert ([*root.handlers], root.level) == before


IN_UTC = "note: a: its cron text is read in UTC, for no zone was named; --zone does\n"


def test_a_cron_text_that_is_read_in_utc_for_want_of_a_zone_is_said_on_stderr_alone(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    nine = ("--cron", "0 9 * * *")
    for named in (False, True):
        terminal("schedule", "delete", "a", "--yes")
        zone = ("--zone", "Asia/Shanghai") if named else ()
        added = terminal.read("schedule", "add", "a", *nine, "--call", CLOSE, *zone)
        assert terminal.complained == ("" if named else IN_UTC)
        assert added["schedule"]["definition"]["trigger"]["fields"]["zone"] == (
            "Asia/Shanghai" if named else "UTC"
        )

    # The zone belongs to the text: without one, a new text is read in UTC though the old one was not.
    assert terminal("schedule", "edit", "a", "--cron", "30 8 * * *") == 0
    assert IN_UTC in terminal.complained
    for words in (
        ("edit", "a", "--cron", "30 8 * * *"),  # it is so already
        ("edit", "a", "--grace", "1h"),
        ("edit", "a", "--every", "5m"),
        ("edit", "a", *nine, "--zone", "UTC"),
    ):
        assert terminal("schedule", *words) == 0
        assert IN_UTC not in terminal.complained, words
    monkeypatch.setenv("ONEBEAT_APP", "shop.beat")  # an app has a zone of its own, and answers for it
    assert terminal("schedule", "edit", "a", "--cron", "45 8 * * *") == 0
    assert IN_UTC not in terminal.complained


def test_the_program_exits_with_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    for words, status in ((["--version"], 0), (["preview", "0 9 * *"], 2)):
        with pytest.raises(SystemExit) as stop:
            cli_main(words)
        assert stop.value.code == status


# --- schedules ------------------------------------------------------------------------------------------


def test_a_celery_task_is_scheduled_and_gets_other_arguments(terminal: Terminal) -> None:
    words = ("--celery", "shop.digest", "--args", "[1]", "--options", '{"queue": "mail", "priority": 5}')
    added = terminal.read("schedule", "add", "a", "--every", "5m", *words)

    target = added["schedule"]["definition"]["target"]
    assert (target["kind"], target["address"], target["args"]) == ("celery", "shop.digest", [1])
    assert target["kwargs"] == {"options": {"queue": "mail", "priority": 5}}

    edited = terminal.read("schedule", "edit", "a", "--kwargs", '{"to": "a"}')

    assert edited["schedule"]["definition"]["target"]["kwargs"] == {
        "kwargs": {"to": "a"},
        "options": {"queue": "mail", "priority": 5},
    }


def test_a_command_is_scheduled_and_becomes_a_request(terminal: Terminal) -> None:
    words = ("--shell", "tar -cf 'a b.tar' .", "--env", "TOKEN=env:TOKEN", "--env", "A=1=2", "--cwd", "/srv")
    added = terminal.read("schedule", "add", "a", "--every", "5m", *words, "--queue", "mail")

    target = added["schedule"]["definition"]["target"]
    assert (target["address"], target["args"]) == ("tar", ["-cf", "a b.tar", "."])
    assert target["kwargs"] == {"env": {"TOKEN": "env:TOKEN", "A": "1=2"}, "cwd": "/srv"}

    words = (
        "--http",
        "https://example.org/hook",
        "--method",
        "PUT",
        "--body-json",
        "[1]",
        "--header",
        "A: b:c",
    )
    edited = terminal.read(
        "schedule", "edit", "a", *words, "--ok", "204", "--ok", "3xx", "--retry-status", "503"
    )

    target = edited["schedule"]["definition"]["target"]
    assert (target["kind"], target["address"], target["args"]) == ("http", "https://example.org", ["/hook"])
    assert target["queue"] == "mail"
    assert target["kwargs"] == {
        "method": "PUT",
        "json": [1],
        "headers": {"A": "b:c"},
        "ok": [204, "3xx"],
        "retry_statuses": [503],
    }


def test_any_trigger_can_be_previewed(terminal: Terminal) -> None:
    sun = '{"kind": "solar", "fields": {"event": "sunset", "latitude": 59.91, "longitude": 10.75}}'
    asked = ("--from", "2026-11-22T00:00:00Z", "-n", "2")

    assert terminal.read("preview", "--trigger", sun, *asked) == {
        "words": "at sunset, 59.91° N 10.75° E",
        "occurrences": ["2026-11-22T14:34:00+00:00", "2026-11-23T14:33:00+00:00"],
    }
    months = '{"kind": "calendar_interval", "fields": {"months": 1, "start": "2026-01-31"}}'
    assert terminal.read("preview", "--trigger", months, *asked)["occurrences"] == [
        "2026-11-30T00:00:00+00:00",
        "2026-12-31T00:00:00+00:00",
    ]
    weeks = terminal.read(
        "preview", "--rrule", "FREQ=WEEKLY;BYDAY=MO;BYHOUR=9", "--zone", "Asia/Tokyo", *asked
    )
    assert [text[:10] for text in weeks["occurrences"]] == ["2026-11-23", "2026-11-30"]
    assert terminal("preview", "0 9 * * *", "--rrule", "FREQ=DAILY") == 2
    assert terminal("preview") == 2


def test_a_function_moves_to_a_process_with_its_arguments_and_back(terminal: Terminal) -> None:
    def target(*words: str) -> tuple[str, list[Any]]:
        written = terminal.read("schedule", *words)["schedule"]["definition"]["target"]
        assert written["address"] == CLOSE
        return written["kind"], written.get("args", [])

    assert target("add", "b", "--every", "5m", "--process", CLOSE, "--args", "[16]") == ("process", [16])
    assert target("add", "a", "--every", "5m", "--call", CLOSE, "--args", "[17]") == ("python", [17])
    assert target("edit", "a", "--process", CLOSE) == ("process", [17])
    assert target("edit", "a", "--args", "[18]") == ("process", [18])
    assert target("edit", "a", "--process", CLOSE, "--args", "[19]") == ("process", [19])
    assert target("edit", "a", "--call", CLOSE) == ("python", [19])


def test_a_recurrence_rule_is_a_when_too(terminal: Terminal) -> None:
    rule = "DTSTART;TZID=Asia/Shanghai:20261120T090000\nRRULE:FREQ=WEEKLY;BYDAY=MO"
    added = terminal.read("schedule", "add", "weekly", "--rrule", rule, "--call", CLOSE)
    assert added["schedule"]["next_at"] == "2026-11-23T01:00:00Z"

    edited = terminal.read(
        "schedule",
        "edit",
        "weekly",
        "--rrule",
        "FREQ=DAILY;BYHOUR=2",
        "--gap",
        "skip",
        "--zone",
        "Europe/Paris",
    )
    fields = edited["schedule"]["definition"]["trigger"]["fields"]
    assert (fields["zone"], fields["gap"]) == ("Europe/Paris", "skip")


def test_a_schedule_is_added_shown_edited_and_deleted(terminal: Terminal) -> None:
    added = terminal.read("schedule", "add", "daily", "--cron", "0 9 * * *", "--call", CLOSE, "--args", "[7]")
    assert added["schedule"]["definition"]["target"]["args"] == [7]
    assert added["schedule"]["next_at"] == "2026-11-22T09:00:00Z"

    edited = terminal.read(
        *("schedule", "edit", "daily", "--every", "90m", "--grace", "10m", "--overlap", "queue_one"),
        *("--retry-on", "TimeoutError", "--attempts", "3", "--report-success", "--title", "Täglich"),
    )
    definition = edited["schedule"]["definition"]
    assert definition["trigger"]["fields"]["period_s"] == 5400
    assert definition["policy"] == {
        "attempts": 3,
        "grace_s": 600,
        "overlap": "queue_one",
        "report_success": True,
        "retry_on": ["TimeoutError"],
    }
    assert definition["title"] == "Täglich"

    back = terminal.read("schedule", "edit", "daily", "--grace", "none", "--no-report-success")
    assert "grace_s" not in back["schedule"]["definition"]["policy"]
    assert "report_success" not in back["schedule"]["definition"]["policy"]

    shown = terminal.read("schedule", "show", "daily")
    assert shown["schedule"]["version"] == back["schedule"]["version"]
    assert [row["name"] for row in terminal.read("schedule", "list")["schedules"]] == ["daily"]
    assert terminal("schedule", "delete", "daily", "--yes") == 0
    assert terminal.read("schedule", "list")["schedules"] == []
    assert terminal.read("schedule", "list", "--deleted")["schedules"][0]["deleted"] is True


@pytest.mark.parametrize(
    ("when", "kind", "fields"),
    [
        (("--cron", "0 9 * * *", "--zone", "Asia/Shanghai"), "cron", {"zone": "Asia/Shanghai"}),
        (
            ("--cron", "30 2 * * *", "--gap", "skip", "--fold", "both"),
            "cron",
            {"gap": "skip", "fold": "both"},
        ),
        (("--cron", "0 9 1 * MON", "--days", "all"), "cron", {"days": "all"}),
        (
            ("--every", "15m", "--anchor", "2026-11-21T00:07"),
            "interval",
            {"anchor_at": "2026-11-21T00:07:00Z"},
        ),
        (("--at", "2026-11-21T15:00", "--zone", "Asia/Shanghai"), "once", {"at": "2026-11-21T07:00:00Z"}),
        (("--in", "1h30m"), "once", {"at": "2026-11-21T13:30:00Z"}),
        (("--trigger", '{"kind":"cron","fields":{"expression":"@daily"}}'), "cron", {"expression": "@daily"}),
    ],
)
def test_a_when_is_said_in_one_of_these_ways(
    terminal: Terminal, when: tuple[str, ...], kind: str, fields: dict[str, str]
) -> None:
    added = terminal.read("schedule", "add", "a", *when, "--call", CLOSE)

    trigger = added["schedule"]["definition"]["trigger"]
    assert trigger["kind"] == kind
    assert fields.items() <= trigger["fields"].items()


def test_if_exists_is_chosen_by_the_caller(terminal: Terminal) -> None:
    words = ("schedule", "add", "a", "--every", "1h", "--call", CLOSE)
    terminal(*words)

    assert terminal(*words) == 4
    assert terminal(*words, "--if-exists", "ignore") == 0
    assert "left as it is" in terminal.said
    assert terminal(*words, "--if-exists", "replace", "--title", "t") == 0


def test_several_are_paused_and_resumed_at_once(terminal: Terminal) -> None:
    for name in "ab":
        terminal("schedule", "add", name, "--every", "1h", "--call", CLOSE)

    assert terminal("schedule", "pause", "a", "b", "--reason", "lunch") == 0
    assert terminal.said == "a: paused\nb: paused\n"
    assert terminal("schedule", "resume", "a") == 0
    assert terminal.said == "a: resumed; next due 2026-11-21 13:00:00+00:00\n"
    assert terminal("schedule", "resume", "a") == 0
    assert "already so" in terminal.said


def billed(terminal: Terminal) -> None:
    for name in ("bill-a", "bill-b", "mail"):
        tag = "billing" if name.startswith("bill") else "x"
        terminal("schedule", "add", name, "--every", "1h", "--call", CLOSE, "--tag", tag)


def test_what_a_tag_or_a_pattern_chooses_is_shown_and_asked_about_first(terminal: Terminal) -> None:
    billed(terminal)
    for words in (
        ("pause", "--tag", "billing"),
        ("delete", "bill-*"),
        ("edit", "--tagged", "billing", "--title", "t"),
    ):
        assert terminal("schedule", *words) == 2
        assert f"{words[0].capitalize()} 2 schedules?" in terminal.complained
        assert "bill-a  every hour" in terminal.complained
        assert "mail" not in terminal.complained
    assert {row.version for row in terminal.beat.schedules.where("*")} == {1}

    assert terminal("schedule", "pause", "--tag", "billing", "--yes") == 0
    assert terminal.said == "bill-a: paused\nbill-b: paused\n"
    answer = terminal.read("schedule", "resume", "--tagged", "billing", "--yes")
    assert [each["schedule"]["name"] for each in answer["written"]] == ["bill-a", "bill-b"]
    assert answer["refused"] == []
    words = (
        "edit",
        "--tagged",
        "billing",
        "--tag",
        "billing",
        "--tag",
        "big",
        "--cron",
        "0 9 * * *",
        "--yes",
    )
    assert terminal("schedule", *words) == 0
    assert terminal.said == "bill-a: edited\nbill-b: edited\n"
    assert terminal.complained.count("its cron text is read in UTC") == 1
    assert terminal.beat.schedules.show("bill-b").schedule.definition.tags == ("billing", "big")
    assert terminal("schedule", "delete", "*", "--tag", "big", "--yes") == 0
    assert [row.name for row in terminal.beat.schedules.list()] == ["mail"]
    assert terminal("schedule", "pause", "--owner", "nobody") == 0
    assert terminal.said == "There are no such schedules.\n"


def test_one_of_many_that_is_refused_is_told_and_ends_with_5(terminal: Terminal) -> None:
    billed(terminal)
    terminal("schedule", "pause", "bill-a")

    answer = terminal.read("schedule", "skip-next", "bill-*", "--yes", status=5)
    assert [each["schedule"]["name"] for each in answer["written"]] == ["bill-b"]
    assert [(each["name"], each["code"]) for each in answer["refused"]] == [("bill-a", "refused")]
    assert terminal("schedule", "skip-next", "bill-a", "mail") == 5
    assert terminal.said.splitlines()[0] == "mail: marked; will skip 2026-11-21 13:00:00+00:00"
    assert terminal.said.splitlines()[1].endswith("[refused]")


def test_acting_on_several_says_which_and_takes_no_version(terminal: Terminal) -> None:
    billed(terminal)

    assert terminal("schedule", "pause") == 2
    assert "say which schedules" in terminal.complained
    assert terminal("schedule", "pause", "bill-a", "mial") == 3
    assert "did you mean 'mail'" in terminal.complained
    assert terminal("schedule", "pause", "bill-a", "mail", "--expected-version", "1") == 2
    assert {row.version for row in terminal.beat.schedules.where("*")} == {1}


def test_an_old_version_is_a_conflict(terminal: Terminal) -> None:
    terminal("schedule", "add", "a", "--every", "1h", "--call", CLOSE)

    assert terminal("schedule", "edit", "a", "--title", "t", "--expected-version", "1") == 0
    assert terminal("schedule", "pause", "a", "--expected-version", "1") == 4
    assert "[conflict]" in terminal.complained


def test_skip_next_says_what_it_skips(terminal: Terminal) -> None:
    terminal("schedule", "add", "a", "--every", "1h", "--call", CLOSE)

    assert terminal("schedule", "skip-next", "a") == 0
    assert "will skip 2026-11-21 13:00:00+00:00" in terminal.said
    terminal("schedule", "skip-next", "a")
    assert terminal("schedule", "skip-next", "a", "--undo") == 0
    assert "unmarked; will skip 2026-11-21 13:00:00+00:00; next due" in terminal.said
    assert terminal("schedule", "show", "a") == 0
    assert "skips          2026-11-21 13:00:00+00:00" in terminal.said
    assert terminal("schedule", "skip-next", "a", "--undo") == 0
    assert "will skip none" in terminal.said
    assert terminal("schedule", "skip-next", "a", "--undo") == 0
    assert "already so" in terminal.said


def test_notes_for_people_are_on_stderr_and_in_the_json(terminal: Terminal) -> None:
    words = ("schedule", "add", "a", "--every", "1h", "--call", "shop.orders:close")
    assert terminal(*words) == 0
    assert terminal.complained.count("note: ") == 2
    assert terminal.said.startswith("a: added")

    assert len(terminal.read(*words, "--if-exists", "replace", "--title", "t")["warnings"]) == 2


def test_a_table_has_a_row_for_each_schedule(terminal: Terminal) -> None:
    assert terminal("schedule", "list") == 0
    assert terminal.said == "There are no schedules.\n"
    terminal("schedule", "add", "a", "--every", "1h", "--call", CLOSE, "--tag", "x")
    terminal("schedule", "add", "b", "--cron", "0 9 * * *", "--call", CLOSE)
    terminal("schedule", "pause", "b")

    terminal("schedule", "list", "--zone", "Asia/Shanghai")
    assert terminal.said.splitlines() == [
        "NAME  WHEN                      NEXT DUE                   STATE   OWNER",
        "a     every hour                2026-11-21 21:00:00+08:00  active",
        "b     at 09:00, every day, UTC                             paused",
    ]
    terminal("schedule", "list", "--tag", "x")
    assert len(terminal.said.splitlines()) == 2


# --- runs -----------------------------------------------------------------------------------------------


def busy(terminal: Terminal) -> None:
    """Have two schedules live for three hours: one succeeds, one fails."""
    terminal("schedule", "add", "good", "--every", "1h", "--call", REPORT)
    terminal("schedule", "add", "bad", "--every", "1h", "--call", FAIL, "--tag", "billing")
    terminal.beat.run_for(timedelta(hours=3, minutes=1))


def test_runs_are_listed_shown_and_their_logs_printed(terminal: Terminal) -> None:
    busy(terminal)

    runs = terminal.read("run", "list", "--tag", "billing", "--state", "failed", "--limit", "2")["runs"]
    assert [run["id"] for run in runs] == ["bad@20261121T150000Z", "bad@20261121T140000Z"]
    assert terminal("run", "list", "--since", "2026-11-21T15:00") == 0
    assert "ValueError: no such order" in terminal.said

    shown = terminal.read("run", "show", "good@20261121T130000Z")
    assert shown["run"]["state"] == "succeeded"
    assert [line["text"] for line in shown["lines"]] == ["reported 2026-11-21T13:00:00+00:00"]
    assert terminal("run", "show", "good@20261121T130000Z") == 0
    assert "info  reported 2026-11-21T13:00:00+00:00" in terminal.said
    assert terminal("run", "show", "bad@20261121T130000Z") == 0
    assert "ValueError: no such order" in terminal.said

    lines = terminal.read("run", "logs", "good@20261121T130000Z")["lines"]
    assert lines[0]["text"] == "reported 2026-11-21T13:00:00+00:00"
    assert terminal("run", "logs", "bad@20261121T130000Z") == 0
    assert terminal.said == "It logged nothing.\n"


def test_a_run_is_asked_for(terminal: Terminal) -> None:
    terminal("schedule", "add", "a", "--every", "1h", "--anchor", "2026-11-21T00:00", "--call", CLOSE)

    (asked,) = terminal.read("schedule", "run", "a", "--key", "k", "--reason", "now")["runs"]
    assert asked["id"] == "a!k"
    assert terminal("schedule", "run", "a") == 5
    assert "[refused]" in terminal.complained
    (standing,) = terminal.read("schedule", "run", "a", "--at", "2026-11-21T07:00", "--forced")["runs"]
    assert standing["occurrence_at"] == "2026-11-21T07:00:00Z"


def test_a_backfill_is_planned_first_and_done_when_told(terminal: Terminal) -> None:
    terminal("schedule", "add", "a", "--every", "1h", "--anchor", "2026-11-21T00:00", "--call", CLOSE)
    words = ("backfill", "a", "--since", "2026-11-21T08:00", "--until", "now", "--rate", "3600/h")

    answer = terminal.read(*words)
    assert answer["made"] is None
    assert answer["plan"]["missing"] == 4
    assert answer["plan"]["takes_s"] == 3
    assert terminal(*words) == 0
    assert "to be made   4" in terminal.said
    assert "takes        at least 3s" in terminal.said
    assert "--apply does it" in terminal.said
    assert "note: while runs of the backfill are unfinished" in terminal.complained
    assert terminal.read("run", "list")["runs"] == []

    assert terminal("backfill", "a", "--since", "2026-11-21T08:00", "--reverse", "--apply") == 0
    assert terminal.said == "4 runs asked for.\n"
    assert "to be made   4" in terminal.complained
    assert terminal.read(*words[:-2], "--apply")["made"] == 0
    assert terminal(*words) == 0
    assert "There is nothing to do." in terminal.said


def test_a_backfill_that_is_interrupted_says_how_far_it_was(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchored = ("--every", "1s", "--anchor", "2026-11-21T00:00")
    terminal("schedule", "add", "a", *anchored, "--call", CLOSE, "--overlap", "allow")

    def interrupt(*words: object, progress: Callable[[int], None], **rest: object) -> int:
        progress(500)
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal.beat.runs, "backfill", interrupt)

    assert terminal("backfill", "a", "--since", "now-10m", "--apply") == 130
    assert "500 of 600 were asked for" in terminal.complained


def test_runs_are_cancelled_by_id_and_in_bulk(terminal: Terminal) -> None:
    words = ("schedule", "add", "a", "--every", "1h", "--anchor", "2026-11-21T00:00", "--call", CLOSE)
    terminal(*words, "--overlap", "allow", "--tag", "x")
    terminal("backfill", "a", "--since", "2026-11-21T00:00", "--apply")
    assert terminal("run", "cancel", "a!backfill-20261121T030000Z") == 0
    assert terminal.said == "a!backfill-20261121T030000Z: cancelled\n"

    assert terminal("run", "cancel", "--tag", "x") == 2
    assert "Cancel 11 runs?" in terminal.complained
    assert terminal.read("run", "cancel", "--tag", "x", "--yes") == {"cancelled": 11}
    assert terminal.read("run", "cancel", "--tag", "x") == {"cancelled": 0}


def test_runs_are_tried_again_by_id_and_in_bulk(terminal: Terminal) -> None:
    busy(terminal)
    (one,) = terminal.read("run", "retry", "bad@20261121T130000Z")["runs"]
    assert one["occurrence_at"] == "2026-11-21T13:00:00Z"

    answer = terminal.read("run", "retry", "--tag", "billing", "--yes", status=5)
    assert len(answer["runs"]) == 1  # the one of 13:00 is under way
    assert [each["code"] for each in answer["refused"]] == ["refused", "refused"]
    forced = terminal.read("run", "retry", "--schedule", "bad", "--forced", "--yes")
    assert len(forced["runs"]) == 3


# --- firing, nodes and the rest -------------------------------------------------------------------------


def test_firing_is_held_and_released(terminal: Terminal) -> None:
    assert terminal.read("hold", "--reason", "maintenance") == {"before": None, "held": True}
    assert terminal("hold") == 0
    assert "held already, by test" in terminal.said
    assert terminal.read("release")["before"]["reason"] == "maintenance"
    assert terminal("release") == 0
    assert terminal.said == "Nothing was held.\n"


def test_a_preview_prints_instants_with_their_offset(terminal: Terminal) -> None:
    words = ("preview", "30 2 * * *", "--zone", "America/New_York", "--from", "2026-03-07T00:00", "-n", "5")

    assert terminal.read(*words) == {
        "words": "at 02:30, every day, America/New_York",
        "occurrences": [
            "2026-03-07T02:30:00-05:00",
            "2026-03-08T03:00:00-04:00",
            "2026-03-09T02:30:00-04:00",
            "2026-03-10T02:30:00-04:00",
            "2026-03-11T02:30:00-04:00",
        ],
    }
    terminal(*words)
    assert terminal.said.splitlines()[1] == "2026-03-08T03:00:00-04:00"
    assert terminal.complained == "at 02:30, every day, America/New_York\n"


def test_a_schedule_shows_when_its_calendar_ends(terminal: Terminal) -> None:
    spec = cron("0 9 * * *") & workdays("CN")
    terminal("schedule", "add", "a", "--trigger", json.dumps(as_json(spec)), "--call", CLOSE)

    terminal("schedule", "show", "a")
    assert f"calendar ends  {announced_until('CN')}\n" in terminal.said


def test_triggers_are_said_in_the_language_that_was_asked_for(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal("schedule", "add", "a", "--cron", "0 9 * * MON-FRI", "--zone", "Asia/Shanghai", "--call", CLOSE)

    terminal("schedule", "list", "--lang", "zh")
    assert "a     周一至周五 09:00(Asia/Shanghai)  2026-" in terminal.said
    terminal("preview", "a", "-n", "1", "--lang", "zh")
    assert terminal.complained == "周一至周五 09:00(Asia/Shanghai)\n"
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")  # the machine has no say in it
    terminal("schedule", "show", "a")
    assert "when           at 09:00, Monday to Friday, Asia/Shanghai\ncron           0 9 * *" in terminal.said
    monkeypatch.setenv("ONEBEAT_LANG", "zh")
    terminal("schedule", "show", "a")
    assert "when           周一至周五 09:00(Asia/Shanghai)\n" in terminal.said
    assert terminal("schedule", "show", "a", "--lang", "de") == 2
    assert "'de' is no language that triggers are said in" in terminal.complained


def test_why_is_one_paragraph(terminal: Terminal) -> None:
    busy(terminal)

    assert terminal("why", "good", "--at", "2026-11-21T13:00") == 0
    assert terminal.said.count("\n") == 1
    assert "was fired" in terminal.said
    assert terminal.read("why", "bad", "--at", "2026-11-21T13:00")["fate"] == "fired"


def test_an_audit_ends_with_1_when_the_ledger_is_not_right(terminal: Terminal) -> None:
    busy(terminal)
    assert terminal("audit") == 0
    assert "right: nothing missing, nothing twice" in terminal.said

    runs = terminal.beat._memory._runs
    del runs["good@20261121T140000Z"]
    report = terminal.read("audit", "good", status=1)
    assert (report["right"], report["gaps"]) == (False, 1)
    assert terminal("audit") == 1
    assert "NOT RIGHT" in terminal.said


def test_nodes_are_listed(terminal: Terminal) -> None:
    assert terminal("node", "list") == 0
    assert "onebeat serve" in terminal.said
    busy(terminal)
    assert [node["id"] for node in terminal.read("node", "list", "--all")["nodes"]] == ["virtual-node"]


def test_a_host_is_ready_while_a_node_on_it_serves(terminal: Terminal) -> None:
    def announce(lasts: timedelta, *, stopping: bool = False) -> None:
        now = terminal.beat.store.now()
        known = {"started_at": now, "seen_at": now, "alive_until": now + lasts, "stopping": stopping}
        terminal.beat.store.announce(Node(id="shop-1-17", host="shop-1", pid=17, roles=("worker",), **known))

    ask = ("node", "ready", "--host", "shop-1")

    assert terminal.read(*ask, status=1)["nodes"] == []
    announce(MINUTE)
    assert terminal(*ask) == 0
    assert terminal.said == "shop-1-17 serves.\n"
    assert terminal("node", "ready", "--host", "shop-2") == 1
    assert terminal.said == "No node on shop-2 serves.\n"
    announce(MINUTE, stopping=True)
    assert terminal(*ask) == 1
    announce(timedelta(0))
    assert terminal(*ask) == 1


def test_this_host_is_the_one_that_is_asked_about(terminal: Terminal) -> None:
    assert terminal.read("node", "ready", status=1)["host"] == socket.gethostname()


def test_a_doctor_ends_with_1_when_something_is_bad(terminal: Terminal) -> None:
    assert terminal("doctor") == 0
    terminal("schedule", "add", "a", "--every", "1s", "--call", "shop.orders:close")
    terminal.beat.run_for(timedelta(minutes=1))

    answer = terminal.read("doctor", status=1)
    assert answer["well"] is False
    assert [check["about"] for check in answer["checks"] if check["level"] == "bad"] == ["parked"]


# --- declarations ---------------------------------------------------------------------------------------


def test_an_export_is_applied_elsewhere_and_a_diff_says_before_what_it_does(
    terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal("schedule", "add", "a", "--cron", "0 9 * * *", "--call", CLOSE, "--grace", "1m")
    assert terminal("export", "--format", "json") == 0
    file = tmp_path / "export.json"
    file.write_text(terminal.said, encoding="utf-8")
    there = Terminal(VirtualOnebeat(), capsys)

    steps = there.read("diff", str(file))["steps"]
    assert [(step["name"], step["verb"]) for step in steps] == [("a", "create")]
    assert there("diff", str(file), "--exit-code") == 1
    assert there("apply", str(file), "--reason", "a move") == 0
    assert there("diff", str(file), "--exit-code") == 0
    assert there("export", "--json") == 0
    assert json.loads(there.said) == json.loads(file.read_text(encoding="utf-8"))


MANIFEST = """
owner = "shop"
revision = 3
[schedules.a]
cron = "0 9 * * *"
call = "tests.surfaces.stage:close"
args = [7]
max_instances = 2
"""


def test_a_manifest_is_applied_exported_and_differs_in_nothing(terminal: Terminal, tmp_path: Path) -> None:
    file, exported = tmp_path / "shop.toml", tmp_path / "export.toml"
    file.write_text(MANIFEST, encoding="utf-8")

    assert terminal("diff", str(file), "--exit-code") == 1
    assert terminal("apply", str(file), "--reason", "a release") == 0
    assert "schedules.a: max_instances is APScheduler's word for max_running" in terminal.complained
    assert "read in UTC" in terminal.complained
    row = terminal.beat.schedules.show("a").schedule
    assert (row.owner, row.revision, row.definition.policy.max_running) == ("shop", 3, 2)
    assert terminal("export") == 0
    assert 'owner = "shop"\nrevision = 3\nzone = "UTC"\n' in terminal.said
    exported.write_text(terminal.said, encoding="utf-8")
    assert terminal("diff", str(exported), "--exit-code") == 0
    assert terminal.said == "0 schedules to do, 1 as declared.\n"

    exported.write_text(exported.read_text(encoding="utf-8").replace("[7]", "[8]"), encoding="utf-8")
    assert [step["changed"] for step in terminal.read("diff", str(exported))["steps"]] == [["target"]]
    answer = terminal.read("apply", str(exported), "--revision", "4")
    assert [step["verb"] for step in answer["steps"]] == ["change"]
    assert terminal.beat.schedules.show("a").schedule.revision == 4


def test_an_owner_on_the_command_line_wins_over_the_file(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(MANIFEST, encoding="utf-8")

    assert terminal("apply", str(file), "--owner", "other") == 0
    assert terminal.beat.schedules.show("a").schedule.owner == "other"
    (step,) = terminal.read("diff", str(file))["steps"]
    assert (step["verb"], "belongs to other" in step["why"]) == ("keep", True)


def test_an_export_of_several_owners_names_none(terminal: Terminal) -> None:
    beat = terminal.beat
    for owner in ("shop", "mail"):
        beat.apply(definitions={owner: define("@daily", close, {}, zone="UTC")}, owner=owner, revision=2)

    terminal("export")
    assert "owner" not in terminal.said
    terminal("export", "--owner", "mail")
    assert 'owner = "mail"' in terminal.said
    assert "[schedules.shop]" not in terminal.said
    terminal("export", "shop")
    assert 'owner = "shop"' in terminal.said


def test_what_the_app_declares_is_exported_without_a_ledger(terminal: Terminal) -> None:
    terminal.beat.declare("a", "@daily", "shop.mail:digest")

    assert terminal("export", "--declared") == 0
    assert 'owner = "test"\nrevision = 0\n' in terminal.said
    assert terminal("export", "--declared", "b") == 3
    assert "the app declares no 'b'" in terminal.complained


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[]", "no export"),
        ("owner = [", "no TOML"),
        ("format = 7", "format 7"),
        ("[schedules.a]", "file.json:1: schedules.a: nothing says when"),
        ('{"schedules": {}}', "format"),
        ('{"format": 99, "schedules": {}}', "format 99"),
        ('{"format": 1, "schedules": {"A": {}}}', "schedule name"),
        ('{"format": 1, "schedules": {"a": {"target": 7}}}', "definition"),
    ],
)
def test_a_file_that_is_no_export_is_refused(
    terminal: Terminal, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "file.json"
    file.write_text(text, encoding="utf-8")

    assert terminal("apply", str(file)) == 2
    assert said in terminal.complained


def test_an_export_of_a_name_that_is_not_there_says_so(terminal: Terminal) -> None:
    assert terminal("export", "nobody") == 3


APP = """
from onebeat import Onebeat, interval
beat = Onebeat("memory://", zone="Asia/Shanghai")
@beat.scheduled(interval(hours=1))
def restock():
    pass
def make():
    return beat
number = 7
"""


@pytest.mark.usefixtures("own_imports")
@pytest.mark.parametrize("place", ["shop_beat", "shop_beat:beat", "shop_beat:make"])
def test_an_app_is_found_in_the_current_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop_beat.py").write_text(APP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    assert run(["apply", "--app", place], Session()) == 0
    assert "create" in capsys.readouterr().out


@pytest.mark.usefixtures("own_imports")
@pytest.mark.parametrize(
    ("place", "status", "said"),
    [
        ("nowhere:beat", 2, "no module 'nowhere'"),
        ("shop_broken:beat", 7, "not_installed_here"),
        ("shop_beat:beet", 2, "did you mean 'beat'"),
        ("shop_beat:number", 2, "no Onebeat"),
    ],
)
def test_an_app_that_is_not_there_is_told(
    place: str,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "shop_beat.py").write_text(APP, encoding="utf-8")
    (tmp_path / "shop_broken.py").write_text("import not_installed_here", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    assert run(["diff", "--app", place], Session()) == status
    assert said in capsys.readouterr().err


# --- words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("2d", 172_800),
        ("1w", 604_800),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "1h30", "-5m", "m", "1e9999d", "9" * 400])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        duration(text)


def test_durations_are_shown_as_they_may_be_typed() -> None:
    for text in ("1h30m", "2d", "250ms", "1m0.5s", "90m"):
        assert duration(span(duration(text)) if text != "1m0.5s" else text) == duration(text)
    assert span(timedelta(minutes=90)) == "1h30m"
    assert span(timedelta(0)) == "0s"


@pytest.mark.parametrize(
    ("text", "zone", "instant"),
    [
        ("2026-11-21T09:00:00Z", "Asia/Shanghai", at(9)),
        ("2026-11-21T09:00:00+08:00", "UTC", at(1)),
        ("2026-11-21T09:00", "Asia/Shanghai", at(1)),
        ("2026-11-21 09:00", "UTC", at(9)),
        ("2026-11-21", "UTC", at(0)),
    ],
)
def test_instants_are_read_in_the_zone(text: str, zone: str, instant: Any) -> None:
    session = Session()
    session.set(zone=zone)

    assert session.instant(text) == instant


def test_a_wall_time_that_does_not_exist_is_the_one_after_the_gap() -> None:
    session = Session()
    session.set(zone="America/New_York")

    assert session.instant("2026-03-08T02:30").isoformat() == "2026-03-08T07:30:00+00:00"


@pytest.mark.parametrize(
    ("text", "offset"), [("now", 0), ("now-2h", -7200), ("+30m", 1800), ("now + 1d", 86_400)]
)
def test_instants_may_be_relative(text: str, offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    monkeypatch.setattr(session, "now", lambda: at(12))

    assert (session.instant(text) - at(12)).total_seconds() == offset


def test_cron_texts_are_found_however_deep_they_are() -> None:
    spec = (cron("0 9 * * *") - interval(minutes=5)) | cron("@daily")

    assert cron_texts(spec) == ["0 9 * * *", "@daily"]


def test_a_chinese_sign_takes_two_columns_of_a_table() -> None:
    assert table(("a", "b"), [("每天", "1"), ("x" * 60, "2")], "").splitlines() == [
        "A" + " " * 61 + "B",
        "每天" + " " * 58 + "1",
        "x" * 60 + "  2",
    ]
    assert cut("每" * 31) == "每" * 29 + "…"


# --- progress -------------------------------------------------------------------------------------------


def test_a_bar_is_drawn_only_where_a_person_watches(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(terminal)
    drawn: list[str] = []

    def bar(**options: Any) -> Any:
        drawn.append(options["label"])
        return real(**options)

    real: Callable[..., Any] = click.progressbar
    monkeypatch.setattr(click, "progressbar", bar)

    terminal("audit")
    assert drawn == []
    monkeypatch.setattr("onebeat.cli.words.watched", lambda: True)
    terminal("audit")
    terminal("audit", "--json")
    assert drawn == ["auditing"]


def test_the_commands_group_is_the_lazy_one() -> None:
    assert isinstance(cli, Commands)
