"""Crontabs as people write them, each with the plan that is expected of it; and texts that nobody wrote.

`crontabs/NAME.crontab` goes in, `crontabs/NAME.plan` has to come out. This file, run as a module, writes the
plans anew; every change of one is read by a person before it is committed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cronsim import CronSim
from hypothesis import example, given
from hypothesis import strategies as st

from onebeat.core.definition import checked_definition
from onebeat.core.errors import LimitExceeded
from onebeat.core.model import NAME
from onebeat.core.triggers import build, cron
from onebeat.core.triggers.cronfields import MACROS
from onebeat.importers.commands import program_name, said
from onebeat.importers.crontab import BYTES_MAX, read_crontab
from onebeat.importers.findings import Crontab, Entry
from onebeat.importers.naming import names_for

FOLDER = Path(__file__).resolve().parent / "crontabs"
CRONTABS = sorted(FOLDER.glob("*.crontab"))
ZONE = "Europe/Berlin"
ANSWERS = 200


def read(path: Path) -> Crontab:
    return read_crontab(path.read_bytes(), ZONE, place=path.name)


def plan(found: Crontab) -> str:
    """Everything that an import would show or do, in lines that a person can compare."""
    unsure = [f"unsure: {found.unsure}"] if found.unsure else []
    names = names_for([entry.definition for entry in found.entries], [], lambda name: False)
    lines = [f"form: {found.form}", *unsure]
    lines += [f"{setting.line} {setting.name} is {setting.value!r}" for setting in found.settings]
    for name, entry in zip(names, found.entries, strict=True):
        lines += ["", f"{entry.line} {name}", *(f"    {part}" for part in parts(entry))]
    lines += [""] * bool(found.problems)
    lines += [
        f"{problem.line} {'broken' if problem.broken else 'not portable'}: {problem.why}"
        for problem in found.problems
    ]
    lines += ["", *(" ".join(["note", *map(str, note.lines)]) + f": {note.text}" for note in found.notes)]
    return re.sub(r"(IANA data) \w+", r"\1", "\n".join(lines).rstrip()) + "\n"


def parts(entry: Entry) -> Iterator[str]:
    wanted = entry.definition
    given = dict(wanted.target.kwargs)
    yield f"{wanted.trigger.fields['expression']} [{wanted.trigger.fields['zone']}]"
    if entry.user is not None:
        yield f"as {entry.user}"
    yield " ".join([wanted.target.address, *wanted.target.args])
    if "input" in given:
        yield f"reads {given['input']!r}"
    if "cwd" in given:
        yield f"in {given['cwd']}"
    yield f"with {given['env']}"
    if wanted.title:
        yield f"title {wanted.title}"
    if wanted.tags != ("crontab",):
        yield f"tags {', '.join(wanted.tags)}"
    if wanted.policy.spread:
        yield f"spread {wanted.policy.spread}"


# --- what people write ----------------------------------------------------------------------------------


def test_there_are_more_than_thirty() -> None:
    assert len(CRONTABS) > 30
    assert {path.stem for path in CRONTABS} == {path.stem for path in FOLDER.glob("*.plan")}


@pytest.mark.parametrize("path", CRONTABS, ids=lambda path: path.stem)
def test_a_crontab_becomes_the_plan_that_is_expected(path: Path) -> None:
    assert plan(read(path)) == path.with_suffix(".plan").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CRONTABS, ids=lambda path: path.stem)
def test_no_line_is_lost(path: Path) -> None:
    said_something = {
        number
        for number, line in enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), 1)
        if line.strip() and not line.lstrip(" \t").startswith("#")
    }

    assert_each_line_is_one_thing(read(path), said_something)


def assert_each_line_is_one_thing(found: Crontab, expected: set[int]) -> None:
    lines = [entry.line for entry in found.entries] + [setting.line for setting in found.settings]
    lines += [problem.line for problem in found.problems]

    assert sorted(lines) == sorted(expected)


@pytest.mark.slow
@pytest.mark.parametrize("path", CRONTABS, ids=lambda path: path.stem)
def test_accepted_lines_come_when_another_evaluator_says(path: Path) -> None:
    for entry in read(path).entries:
        text = entry.definition.trigger.fields["expression"]
        trigger = build(cron(text, zone="UTC"))
        at = datetime(2026, 11, 22, 0, 30, 30, tzinfo=UTC)
        theirs = CronSim(MACROS.get(text) or text, at)
        for _ in range(ANSWERS):
            following = trigger.after(at)
            assert following is not None
            assert following == next(theirs), text
            at = following


# --- what nobody wrote ----------------------------------------------------------------------------------

WORDS = (
    *("*", "*/5", "0", "7", "1-5", "5-1", "22-6/2", "60", "MON", "jan", "@daily", "@reboot", "@every"),
    *("?", "L", "H", "0~9", "root", "www-data", "-", "-*", "#", "%", "\\%", "\\", "'", '"', "=", "MAILTO"),
    *(
        "CRON_TZ",
        "UTC",
        "Mars",
        "SHELL",
        "HOME",
        "/bin/sh",
        "RANDOM_DELAY",
        "TZ",
        "x",
        "备份",
        "nice",
        "flock",
    ),
    *("-c", "&&", "env:X", "ONEBEAT_X", "cd", "sh", "export", "/run/systemd/system", ">/dev/null"),
    *("\x00", "\x07", "\u3000"),
)
BLANKS = ("", " ", "  ", "\t", "\n", "\n\n", "\r\n", "\r")
pieces = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(BLANKS)), max_size=60)
texts = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")),
    pieces.map(lambda drawn: "".join(word + blank for word, blank in drawn).encode()),
)


@pytest.mark.slow
@given(texts, st.sampled_from([None, True, False]))
@example(b"\xff\n# \xff\n* * * * * \xff", None)
@example(b"* * * * * nice " * 50, None)
@example("* * * * * x\u2028* * * * * y".encode(), False)
@example(b"CRON_TZ=../../etc/passwd\n* * * * * x", None)
@example(b"SHELL=/bin/\xc2\x80sh\n* * * * * x", None)
@example(b"A=\xed\xa0\x80", None)
def test_any_text_is_read_and_each_line_is_one_thing(content: bytes, system: bool | None) -> None:
    found = read_crontab(content, ZONE, system=system)

    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    expected = {
        number
        for number, line in enumerate(lines, 1)
        if (bare := line.rstrip(b"\r").lstrip(b" \t")) and not bare.startswith(b"#")
    }
    assert_each_line_is_one_thing(found, expected)
    for entry in found.entries:
        checked_definition(entry.definition)
    for name in names_for([entry.definition for entry in found.entries], [], lambda name: False):
        assert NAME.fullmatch(name)


@pytest.mark.slow
@given(st.text(max_size=200))
def test_any_command_has_a_name_that_a_schedule_can_have(command: str) -> None:
    assert NAME.fullmatch(f"{program_name(command)}-99999")


def test_a_crontab_that_is_too_long_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="import it in parts"):
        read_crontab(b"#" * (BYTES_MAX + 1), ZONE)


def test_a_long_command_is_named_as_fast_as_a_short_one() -> None:
    assert program_name("nice " * 100_000 + "x") == "nice"


# --- the percent rule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "command", "read_by_it"),
    [
        ("cat%a%b", "cat", "a\nb\n"),
        ("cat%a%b%", "cat", "a\nb\n"),
        ("cat%%a", "cat", "\na\n"),
        (r"date +\%F", "date +%F", None),
        (r"date +\\%F", r"date +\\", "F\n"),
        (r"cat%100\%%c:\new\\%x", "cat", "100%\nc:\\new\\%x\n"),
        ("cat%", "cat", None),
        ("cat  \t", "cat", None),
        ("cat  %a  ", "cat", "a  \n"),
        ("ls my\\ dir\\ ", "ls my\\ dir\\ ", None),
    ],
)
def test_the_first_percent_sign_ends_the_command(text: str, command: str, read_by_it: str | None) -> None:
    assert said(text) == (command, read_by_it)


# --- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/local/bin/backup.sh", "backup"),
        ("certbot -q renew", "certbot"),
        ("certbot renew -q", "certbot-renew"),
        ("cd /srv && . venv/bin/activate && ./manage.py clearsessions", "manage-clearsessions"),
        ("cd /srv && /usr/bin/php8.3 artisan schedule:run", "artisan-schedule-run"),
        ("python3 -m shop.report", "shop.report"),
        ("python -c 'print(1)'", "python"),
        ("bash -lc 'cd /srv && bundle exec rake jobs:clear'", "rake-jobs-clear"),
        ("flock -n /tmp/x.lock -c 'cd /x && php /srv/cron.php'", "cron"),
        ("nice -n 19 ionice -c3 timeout -k 5 1h /usr/bin/dump.pl", "dump"),
        ("sudo -u www-data env A=1 B=2 /srv/tidy", "tidy"),
        ("su - postgres -c 'vacuumdb --all'", "vacuumdb"),
        ("[ -x /a ] && if [ ! -d /b ]; then /usr/lib/php/sessionclean; fi", "sessionclean"),
        ("test -x /a || { cd / && run-parts --report /etc/cron.daily; }", "cron.daily"),
        ("sleep 30; A=b /srv/poll", "poll"),
        ("tar czf x.tgz /srv", "tar"),
        ("pg_dump shop | gzip > x.gz", "pg_dump-shop"),
        ("'/opt/My App/Run Me.sh'", "run-me"),
        ("备份.sh", "command"),
        ("echo 'never closed", "echo"),
        ("sleep 10", "sleep"),
    ],
)
def test_a_schedule_is_named_for_the_program_that_the_line_is_about(command: str, name: str) -> None:
    assert program_name(command) == name


if __name__ == "__main__":
    for crontab in CRONTABS:
        crontab.with_suffix(".plan").write_text(plan(read(crontab)), encoding="utf-8")
