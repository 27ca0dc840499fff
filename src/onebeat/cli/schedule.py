"""`onebeat schedule`: list, show, add, edit, pause, resume, delete, run, skip-next."""

from collections.abc import Callable
from typing import Any

import click

from onebeat.app.desk import Written
from onebeat.app.schedules import Shown
from onebeat.cli.session import Session, common, given
from onebeat.cli.wanted import how, options_of, target_of, trigger_of, what, when
from onebeat.cli.words import at, cron_texts, document, pairs, sure, table, trigger_words, warn
from onebeat.core.codec import to_data
from onebeat.core.errors import InvalidInput
from onebeat.core.model import Json, Schedule, TriggerSpec

because = click.option("--reason", default="", metavar="TEXT", help="Why; the trail keeps it.")
expected = click.option(
    "--expected-version", type=int, metavar="N", help="Only if the schedule is at this version."
)
name = click.argument("name")


@click.group()
def schedule() -> None:
    """Look at schedules and change them; what a command does is in force when it returns."""


@schedule.command("list")
@click.option("--tag", metavar="TAG", help="Only those that carry this tag.")
@click.option("--owner", metavar="OWNER", help="Only those that this owner declares.")
@click.option("--deleted", is_flag=True, help="Deleted ones too.")
@click.option("--after", default="", metavar="NAME", help="Go on after this name.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="At most so many."
)
@common
@given
def list_(
    session: Session, /, tag: str | None, owner: str | None, deleted: bool, after: str, limit: int
) -> None:
    """List schedules by name.

    Example: onebeat schedule list --tag billing
    """
    rows = session.beat.schedules.list(tag=tag, owner=owner, deleted=deleted, after=after, limit=limit)
    cells = [
        (
            row.name,
            trigger_words(session, row.definition.trigger),
            at(session, row.next_at),
            state(row),
            row.owner,
        )
        for row in rows
    ]
    head = ("name", "when", "next due", "state", "owner")
    document(session, {"schedules": rows}, lambda: table(head, cells, "There are no schedules."))


@schedule.command()
@name
@common
@given
def show(session: Session, name: str) -> None:
    """Show one schedule: its definition, what comes, what came of it, and what is amiss.

    Example: onebeat schedule show report
    """
    shown = session.beat.schedules.show(name)
    document(session, shown, lambda: _shown(session, shown))


@schedule.command()
@name
@when
@what
@how
@click.option(
    "--if-exists",
    type=click.Choice(["error", "replace", "ignore"]),
    default="error",
    show_default=True,
    help="Where the name is taken.",
)
@click.option("--paused", is_flag=True, help="Begin paused.")
@click.option("--run-now", is_flag=True, help="Ask for one run at once, beside the schedule.")
@because
@common
@given
def add(
    session: Session, /, name: str, if_exists: Any, paused: bool, run_now: bool, reason: str, **said: Any
) -> None:
    """Add a schedule.

    Example: onebeat schedule add report --cron "0 9 * * *" --call shop.reports:send --grace 10m
    """
    trigger = trigger_of(session, said)
    target = target_of(said).new()
    if trigger is None or target is None:
        missing = (
            "--cron, --every, --at, --in or --trigger" if trigger is None else "--call, --shell or --http"
        )
        raise InvalidInput(f"{name} needs {missing}; see onebeat schedule add --help")
    written = session.beat.schedules.put(
        name,
        trigger,
        target,
        if_exists=if_exists,
        paused=paused,
        run_now=run_now,
        reason=reason,
        **_options(said),
    )
    _written(session, written, "added" if written.changed else "left as it is")
    _zone_taken(session, trigger, written)


@schedule.command()
@name
@when
@what
@how
@because
@expected
@common
@given
def edit(session: Session, /, name: str, reason: str, expected_version: int | None, **said: Any) -> None:
    """Change a schedule; what is not mentioned stays. Due until now follows the old, later the new.

    Example: onebeat schedule edit report --cron "30 8 * * *" --grace none
    """
    trigger = trigger_of(session, said)
    aim = target_of(said)
    written = session.beat.schedules.edit(
        name,
        trigger=trigger,
        target=aim.target,
        args=aim.args,
        kwargs=aim.kwargs,
        reason=reason,
        expected_version=expected_version,
        **_options(said),
    )
    _written(session, written, "edited" if written.changed else "already so")
    _zone_taken(session, trigger, written)


def _zone_taken(session: Session, trigger: TriggerSpec | None, written: Written) -> None:
    """Say that a cron text was read in UTC where nobody named a zone, on the command line or in an app."""
    if trigger is None or trigger.kind != "cron" or trigger.fields.get("zone") is not None:
        return
    if written.changed and session.option("app") is None:
        zone = session.beat.zone
        warn(
            [f"{written.schedule.name}: its cron text is read in {zone}, for no zone was named; --zone does"]
        )


def _options(said: dict[str, Any]) -> Any:
    return options_of(said)


@schedule.command()
@click.argument("names", nargs=-1, required=True)
@because
@expected
@common
@given
def pause(session: Session, names: tuple[str, ...], reason: str, expected_version: int | None) -> None:
    """Pause schedules: what comes due is skipped, recorded as paused; runs that there are go on.

    Example: onebeat schedule pause report --reason "the mail server moves"
    """
    _each(session, names, session.beat.schedules.pause, "paused", reason, expected_version)


@schedule.command()
@click.argument("names", nargs=-1, required=True)
@because
@expected
@common
@given
def resume(session: Session, names: tuple[str, ...], reason: str, expected_version: int | None) -> None:
    """Resume paused schedules: what came due meanwhile stays skipped.

    Example: onebeat schedule resume report
    """
    _each(session, names, session.beat.schedules.resume, "resumed", reason, expected_version)


@schedule.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@because
@expected
@common
@given
def delete(
    session: Session, names: tuple[str, ...], yes: bool, reason: str, expected_version: int | None
) -> None:
    """Delete schedules: waiting runs are cancelled, others go on, history stays as long as it is kept.

    Example: onebeat schedule delete report --yes
    """
    sure(f"Delete {', '.join(names)}?", yes)
    _each(session, names, session.beat.schedules.delete, "deleted", reason, expected_version)


@schedule.command("skip-next")
@name
@because
@expected
@common
@given
def skip_next(session: Session, name: str, reason: str, expected_version: int | None) -> None:
    """Skip the next occurrence that is not skipped yet, when it comes.

    Example: onebeat schedule skip-next report --reason "a holiday"
    """
    written = session.beat.schedules.skip_next(name, reason, expected_version=expected_version)
    skips = ", ".join(at(session, instant) for instant in written.schedule.skips)
    _written(session, written, f"will skip {skips}")


@schedule.command("run")
@name
@click.option("--at", "standing", metavar="TIME", help="The occurrence that the run stands for.")
@click.option("--key", metavar="KEY", help="Asked for again under the same key, it is the same run.")
@click.option("--forced", is_flag=True, help="Queue it where overlap would refuse it.")
@because
@common
@given
def run_(
    session: Session,
    name: str,
    standing: str | None,
    key: str | None,
    forced: bool,
    reason: str,
) -> None:
    """Ask for a run now. Settles nothing; no occurrence is lost for it.

    Example: onebeat schedule run report --reason "the boss asks"
    """
    instant = None if standing is None else session.instant(standing)
    run = session.beat.runs.request(name, key=key, at=instant, forced=forced, reason=reason)
    document(session, {"runs": [run]}, lambda: f"{run.id}: {run.state.value}")


# --- how answers look -----------------------------------------------------------------------------------


def _each(
    session: Session,
    names: tuple[str, ...],
    act: Callable[..., Written],
    word: str,
    reason: str,
    expected_version: int | None,
) -> None:
    written = [act(name, reason, expected_version=expected_version) for name in names]
    if len(written) == 1:
        _written(session, written[0], word if written[0].changed else "already so")
        return
    for each in written:
        warn(each.warnings)
    lines = [f"{each.schedule.name}: {word if each.changed else 'already so'}" for each in written]
    document(session, {"written": written}, lambda: "\n".join(lines))


def _written(session: Session, written: Written, word: str) -> None:
    row = written.schedule
    said = f"{row.name}: {word}"
    if row.next_at is not None:
        said += f"; next due {at(session, row.next_at)}"
    if not session.as_json:
        warn(written.warnings)
    document(session, written, lambda: said)


def state(row: Schedule) -> str:
    """Return in a word how a schedule is."""
    if row.deleted:
        return "deleted"
    if row.quarantined is not None:
        return "quarantined"
    if row.paused is not None:
        return "paused"
    if row.definition.trigger.kind == "on_request":
        return "on request"
    return "active" if row.next_at is not None else "ended"


def _shown(session: Session, shown: Shown) -> str:
    row = shown.schedule
    definition = row.definition
    target = definition.target
    policy: dict[str, Json] = to_data(definition.policy)
    comes = [at(session, instant) for instant in shown.upcoming]
    runs = [f"{run.id}  {run.state.value}" for run in shown.last_runs]
    return pairs(
        [
            ("name", row.name),
            ("title", definition.title),
            ("state", state(row)),
            ("reason", row.quarantined or row.paused or ""),
            ("when", trigger_words(session, definition.trigger)),
            ("cron", "\n".join(cron_texts(definition.trigger))),
            ("calendar ends", "" if shown.calendar_ends is None else shown.calendar_ends.isoformat()),
            ("target", target.key),
            ("arguments", _arguments(list(target.args), target.kwargs)),
            ("queue", target.queue),
            ("policy", ", ".join(f"{key}={value}" for key, value in policy.items()) or "the defaults"),
            ("tags", ", ".join(definition.tags)),
            ("owner", f"{row.owner} at revision {row.revision}" if row.owner else ""),
            ("version", f"{row.version}, definition {row.number}, incarnation {row.incarnation}"),
            ("settled until", at(session, row.settled_until)),
            ("next due", at(session, row.next_at)),
            ("comes at", "\n".join(comes)),
            ("skips", "\n".join(at(session, skip) for skip in row.skips)),
            ("unfinished", f"{shown.load.live} live, {shown.load.waiting} waiting"),
            ("last runs", "\n".join(runs)),
            ("amiss", "\n".join(shown.warnings)),
        ]
    )


def _arguments(args: list[Json], kwargs: dict[str, Json]) -> str:
    said = [repr(value) for value in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    return ", ".join(said)
