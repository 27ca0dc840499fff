"""`onebeat import crontab`: the plan, what is applied, and what an import of an edited file does."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.newcomer.serving import ran, serving, wait_for
from tests.surfaces.stage import Town

from onebeat import call, shell
from onebeat.cli.main import run
from onebeat.cli.session import Session
from onebeat.core.definition import define
from onebeat.core.model import FINISHED, CatchUp, OnLost, Overlap, RunState
from onebeat.core.reconcile import Verb
from onebeat.importers.machine import machine_zone
from onebeat.testing.virtual import VirtualOnebeat

SHOP = """\
MAILTO=ops@example.com
# Every night
0 3 * * * /srv/shop/backup.sh full
*/5 * * * * cd /srv/shop && php artisan schedule:run
"""


@pytest.fixture
def imported(
    onebeat: VirtualOnebeat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Import a text with these options; return what --json prints, with the exit status in it."""

    def import_(text: str, *options: str) -> Any:
        place = tmp_path / "shop.cron"
        place.write_text(text, encoding="utf-8")
        capsys.readouterr()
        words = ["import", "crontab", str(place), "--zone", "Europe/Berlin", "--json", *options]
        status = run(words, Session(onebeat))
        said, complained = capsys.readouterr()
        return json.loads(said or complained) | {"status": status}

    return import_


def did(plan: Any) -> dict[str, str]:
    return {line["schedule"]: line["what"] for line in plan["lines"]} | {
        step["name"]: step["verb"] for step in plan["gone"]
    }


# --- the plan and what is applied -----------------------------------------------------------------------


def test_a_plan_writes_nothing(onebeat: VirtualOnebeat, imported: Callable[..., Any]) -> None:
    plan = imported(SHOP)

    assert did(plan) == {"backup-full": "create", "artisan-schedule-run": "create"}
    assert (plan["applied"], plan["status"]) == (False, 0)
    assert onebeat.schedules.list() == []


def test_what_is_applied_is_what_cron_did(onebeat: VirtualOnebeat, imported: Callable[..., Any]) -> None:
    plan = imported(SHOP, "--apply")
    row = onebeat.schedules.show("backup-full").schedule
    wanted = row.definition

    assert plan["applied"]
    assert wanted.trigger.fields == {"expression": "0 3 * * *", "zone": "Europe/Berlin"}
    assert (wanted.target.kind, wanted.target.address) == ("shell", "/bin/sh")
    assert wanted.target.args == ("-c", "/srv/shop/backup.sh full")
    assert wanted.target.kwargs == {"env": {"PATH": "/usr/bin:/bin"}}
    assert (wanted.policy.catch_up, wanted.policy.overlap) == (CatchUp.SKIP, Overlap.ALLOW)
    assert (wanted.policy.grace, wanted.policy.on_lost) == (timedelta(minutes=1), OnLost.FAIL)
    assert wanted.policy.start_within == timedelta(minutes=10)
    assert (wanted.title, wanted.tags) == ("Every night", ("crontab", "mailto:ops@example.com"))
    assert (row.owner, row.revision) == ("crontab", 0)


def test_nothing_is_made_up_for(onebeat: VirtualOnebeat, imported: Callable[..., Any]) -> None:
    imported("0 * * * * true\n", "--apply")
    begin = onebeat.now
    onebeat.at(begin + timedelta(hours=5, minutes=20))
    onebeat.run_until(begin + timedelta(hours=5, minutes=30))

    assert onebeat.runs.list(schedule="true") == []


def test_the_plan_in_words_has_every_line_and_says_what_to_do(
    onebeat: VirtualOnebeat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "shop.cron"
    place.write_text(f"{SHOP}@reboot /srv/shop/start\n0 25 * * * late\n", encoding="utf-8")

    status = run(["import", "crontab", str(place), "--zone", "Europe/Berlin"], Session(onebeat))
    said = capsys.readouterr().out

    assert status == 1
    assert "times in Europe/Berlin (--zone or ONEBEAT_ZONE)" in said
    assert "at 03:00, every day, Europe/Berlin" in said
    assert "cd /srv/shop && php artisan schedule:run" in said
    assert "line 5: @reboot is not portable" in said
    assert "line 6: hour field: '25' has 25, which no hour is" in said
    assert 'tag="mailto:ops@example.com"' in said
    assert said.endswith(
        "2 schedules to do, 0 as they are, 2 lines not imported. Nothing was done; --apply does it.\n"
    )


def test_stdin_is_a_crontab_too(
    onebeat: VirtualOnebeat, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"@daily tidy\n")))

    assert run(["import", "crontab", "-", "--json"], Session(onebeat)) == 0
    assert did(json.loads(capsys.readouterr().out)) == {"tidy": "create"}


def test_the_words_of_the_plan_are_in_the_language_that_is_asked_for(
    onebeat: VirtualOnebeat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "shop.cron"
    place.write_text("0 9 * * 1-5 tidy\n", encoding="utf-8")

    run(["import", "crontab", str(place), "--lang", "zh"], Session(onebeat))

    assert "周一至周五" in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_imported_runs_as_under_cron(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    crontab = tmp_path / "shop.cron"
    crontab.write_text(
        f"HOME={tmp_path / 'shop'}\nGREETING='  hello  '\nSHELL=/bin/bash\n"
        '0 3 1 1 * [[ 1 ]] && echo "$GREETING|$(pwd)|$PATH|100\\%" && cat%first%second # no comment\n',
        encoding="utf-8",
    )
    onebeat = [sys.executable, "-m", "onebeat"]

    with serving(tmp_path, [*onebeat, "serve", "--shell"]) as beat:
        done = ran(tmp_path, *onebeat, "import", "crontab", str(crontab), "--apply")
        assert done.returncode == 0, done.stderr
        beat.runs.request("echo")
        ended = wait_for(beat, lambda: beat.runs.list(schedule="echo", states=list(FINISHED)))
        lines = [line.text for line in beat.runs.logs(ended[0].id)]

    assert ended[0].state is RunState.SUCCEEDED
    assert "\n".join(lines).splitlines() == [
        f"  hello  |{tmp_path / 'shop'}|/usr/bin:/bin|100%",
        "first",
        "second # no comment",
    ]


# --- again ----------------------------------------------------------------------------------------------


def test_importing_twice_changes_nothing(onebeat: VirtualOnebeat, imported: Callable[..., Any]) -> None:
    imported(SHOP, "--apply")
    before = onebeat.schedules.list()

    assert set(did(imported(SHOP)).values()) == {"keep"}
    assert set(did(imported(SHOP, "--apply", "--prune")).values()) == {"keep"}
    assert onebeat.schedules.list() == before


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        (SHOP.replace("0 3", "30 4"), ["trigger"]),
        (SHOP.replace("backup.sh full", "backup.sh full --fast"), ["target"]),
        (SHOP.replace("MAILTO=ops", "MAILTO=dev"), ["tags"]),
        (SHOP.replace("# Every night", "# At night"), ["title"]),
        (f"LANG=C.UTF-8\n{SHOP}", ["target"]),
        (f"CRON_TZ=Asia/Tokyo\n{SHOP}", ["trigger"]),
        (f"RANDOM_DELAY=5\n{SHOP}", ["spread"]),
    ],
    ids=["time", "arguments", "mailto", "comment", "variable", "zone", "delay"],
)
def test_an_edited_line_is_an_edit_of_its_schedule(
    edited: str, changed: list[str], onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported(SHOP, "--apply")
    ids = {row.name: row.id for row in onebeat.schedules.list()}
    before = onebeat.schedules.show("backup-full").schedule

    plan = imported(edited, "--apply")

    assert did(plan)["backup-full"] == "change"
    why = next(line["why"] for line in plan["lines"] if line["schedule"] == "backup-full")
    assert why == f"declared anew: {', '.join(changed)}"
    assert {row.name: row.id for row in onebeat.schedules.list()} == ids
    assert onebeat.schedules.show("backup-full").schedule.version > before.version


def test_lines_of_one_program_keep_their_schedules_wherever_they_stand(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    first, second, third = ("0 3 * * * sync a\n", "0 4 * * * /bin/sync -b\n", "0 5 * * * /bin/sync -c\n")
    imported(second + third, "--apply")

    plan = imported(third + first + second, "--apply")

    assert {line["line"]: (line["schedule"], line["what"]) for line in plan["lines"]} == {
        1: ("sync-2", "keep"),
        2: ("sync-a", "create"),
        3: ("sync", "keep"),
    }


def test_edited_lines_of_one_program_are_told_apart_by_their_time(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported("0 3 * * * sync -a\n0 4 * * * sync -b\n", "--apply")

    plan = imported("0 5 * * * sync -c\n0 4 * * * sync -x\n0 3 * * * sync -a\n")

    assert [line["schedule"] for line in plan["lines"]] == ["sync-3", "sync-2", "sync"]


def test_a_line_whose_time_and_arguments_were_edited_is_known_by_its_program(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported("0 3 * * * sync -a\n", "--apply")

    assert did(imported("0 4 * * * sync -b\n")) == {"sync": "change"}


def test_a_line_is_the_schedule_that_is_there_before_the_one_that_was(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported("0 3 * * * tidy\n0 4 * * * tidy\n", "--apply")
    imported("0 4 * * * tidy\n", "--apply", "--prune")

    assert did(imported("0 3 * * * tidy\n")) == {"tidy-2": "change"}


def test_a_line_is_its_schedule_whatever_a_person_made_of_that(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported("0 3 * * * tidy\n", "--apply")
    onebeat.schedules.edit("tidy", trigger="0 5 * * *", target=shell(["/srv/tidy-by-hand"]))

    assert did(imported("0 3 * * * tidy\n", "--apply")) == {"tidy": "keep"}


def test_a_line_that_is_gone_stays_until_it_is_pruned(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported(SHOP, "--apply")
    fewer = SHOP.replace("*/5 * * * * cd", "#*/5 * * * * cd")

    assert did(imported(fewer, "--apply"))["artisan-schedule-run"] == "keep"
    assert len(onebeat.schedules.list()) == 2
    assert did(imported(fewer, "--apply", "--prune"))["artisan-schedule-run"] == "remove"
    assert [row.name for row in onebeat.schedules.list()] == ["backup-full"]


def test_nothing_is_pruned_while_a_line_is_broken(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported(SHOP, "--apply")

    answer = imported(SHOP.replace("0 3 *", "0 33 *"), "--apply", "--prune")

    assert answer["error"]["code"] == "refused"
    assert "line 3 " in answer["error"]["message"]
    assert len(onebeat.schedules.list()) == 2


def test_a_line_for_the_start_of_the_machine_is_no_reason_not_to_prune(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported(SHOP, "--apply")

    plan = imported(f"{SHOP.partition('*/5')[0]}@reboot /srv/start\n", "--apply", "--prune")

    assert did(plan)["artisan-schedule-run"] == "remove"


def test_an_empty_file_does_not_prune_everything(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    # As when the command in front of the pipe failed.
    imported(SHOP, "--apply")

    assert imported("", "--apply", "--prune")["error"]["code"] == "refused"
    assert len(onebeat.schedules.list()) == 2


def test_what_a_person_changed_wins_until_forced(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported(SHOP, "--apply")
    onebeat.schedules.edit("backup-full", overlap="skip")
    imported(SHOP.replace("0 3", "0 4"), "--apply")
    kept = onebeat.schedules.show("backup-full").schedule.definition
    imported(SHOP, "--apply", "--force")
    forced = onebeat.schedules.show("backup-full").schedule.definition

    assert (kept.trigger.fields["expression"], kept.policy.overlap) == ("0 4 * * *", Overlap.SKIP)
    assert (forced.trigger.fields["expression"], forced.policy.overlap) == ("0 3 * * *", Overlap.ALLOW)


def test_the_plan_in_words_says_why_and_what_is_gone(
    onebeat: VirtualOnebeat, imported: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(SHOP, "--apply")
    onebeat.schedules.edit("artisan-schedule-run", trigger="*/7 * * * *")
    onebeat.schedules.delete("backup-full")
    later = tmp_path / "later.cron"
    later.write_text(SHOP.replace("*/5", "*/6") + "0 5 * * * tidy\n", encoding="utf-8")
    imported("0 6 * * * gone\n", "--apply")

    run(["import", "crontab", str(later), "--zone", "Europe/Berlin"], Session(onebeat))
    said = capsys.readouterr().out

    assert "stamp artisan-schedule-run: a person changed trigger too, and wins until forced" in said
    assert "keep backup-full: it was deleted while revision 0 declared it" in said
    assert "No line declares any more:\n  keep gone: it is declared no more" in said


def test_a_line_that_a_person_deleted_stays_deleted_until_forced(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported(SHOP, "--apply")
    onebeat.schedules.delete("backup-full")

    assert did(imported(SHOP, "--apply"))["backup-full"] == "keep"
    assert [row.name for row in onebeat.schedules.list()] == ["artisan-schedule-run"]
    assert did(imported(SHOP, "--apply", "--force"))["backup-full"] == "create"


def test_a_name_that_somebody_else_has_is_left_to_them(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    onebeat.schedules.put("backup-full", "0 1 * * *", call("shop.tasks:backup"))
    onebeat.schedules.put("backup-full-2", "0 1 * * *", call("shop.tasks:backup"))
    onebeat.schedules.delete("backup-full-2")

    assert did(imported(SHOP, "--apply"))["backup-full-3"] == "create"
    assert onebeat.schedules.show("backup-full").schedule.definition.target.kind == "python"


def test_crontabs_of_two_owners_do_not_prune_each_other(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported("0 1 * * * one\n", "--apply", "--owner", "crontab-web1")
    imported("0 1 * * * two\n", "--apply", "--owner", "crontab-web2", "--prune")
    onebeat.declare("declared", "0 1 * * *", call("shop.tasks:backup"))
    onebeat.apply()
    imported("0 1 * * * three\n", "--apply", "--owner", "crontab-web1", "--prune")

    assert [row.name for row in onebeat.schedules.list()] == ["declared", "three", "two"]


def test_the_revision_of_the_app_is_not_the_one_of_its_crontabs() -> None:
    # A higher revision removes what it declares no more, and an app's own grows with each release.
    town = Town()
    town.app().apply(definitions={"one": define("0 1 * * *", call("shop.tasks:backup"), {})}, owner="crontab")
    later = town.app(revision=42)

    assert [step.verb for step in later.diff(definitions={}, owner="crontab")] == [Verb.KEEP]
    assert [step.verb for step in later.apply(definitions={}, owner="crontab").steps] == [Verb.KEEP]


def test_what_was_imported_goes_on_as_a_manifest(
    onebeat: VirtualOnebeat, imported: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(f"{SHOP}0 5 * * * cat%100\\%%of it\nHOME=/srv\n@daily tidy\n", "--apply")
    manifest = tmp_path / "crontab.toml"

    run(["export", "--owner", "crontab"], Session(onebeat))
    manifest.write_text(capsys.readouterr().out, encoding="utf-8")
    run(["diff", str(manifest)], Session(onebeat))

    assert capsys.readouterr().out == "0 schedules to do, 4 as declared.\n"


# --- with a user column or without ----------------------------------------------------------------------


def test_a_file_that_may_have_users_or_not_is_not_applied_until_it_is_told(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    text = "0 1 * * * root tidy\n0 2 * * * tidy\n"

    plan = imported(text)
    assert plan["unsure"] == (
        "root before a command looks like a user column, and 'tidy' in the same place does not; "
        "say --system or --user"
    )
    assert imported(text, "--apply")["error"]["code"] == "invalid_input"
    assert onebeat.schedules.list() == []
    assert did(imported(text, "--apply", "--user")) == {"root-tidy": "create", "tidy": "create"}


@pytest.mark.parametrize(
    ("text", "options", "system"),
    [
        ("0 1 * * * root tidy\n0 2 * * * www-data tidy\n", (), True),
        ("# m h dom mon dow user\tcommand\n0 1 * * * deploy tidy\n", (), True),
        ("# *  *  *  *  * user-name  command to be executed\n0 1 * * * deploy tidy\n", (), True),
        ("# m h  dom mon dow   command\n0 1 * * * deploy tidy\n", (), False),
        ("# run the user command\n0 1 * * * deploy tidy\n", (), False),
        ("0 1 * * * deploy tidy\n", ("--system",), True),
        ("0 1 * * * root tidy\n", ("--user",), False),
    ],
)
def test_a_user_column_is_found(
    text: str, options: tuple[str, ...], system: bool, imported: Callable[..., Any]
) -> None:
    plan = imported(text, *options)

    assert [line["user"] is not None for line in plan["lines"]] == [system] * text.count("tidy")
    assert plan["unsure"] is None


# --- the zone of the machine ----------------------------------------------------------------------------


def test_the_zone_is_the_one_that_the_machine_names(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    nameless = machine_zone({}, tmp_path)
    (tmp_path / "etc/timezone").write_text("Asia/Tokyo\n", encoding="utf-8")
    written = machine_zone({}, tmp_path)
    (tmp_path / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    linked = machine_zone({}, tmp_path)

    assert (nameless.zone, written.zone, linked.zone) == ("UTC", "Asia/Tokyo", "Europe/Berlin")
    assert machine_zone({"TZ": ":America/Lima"}, tmp_path).zone == "America/Lima"
    assert machine_zone({"TZ": "EST5EDT,M3.2.0,M11.1.0"}, tmp_path).zone == "Europe/Berlin"
