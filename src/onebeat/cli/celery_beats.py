"""`onebeat import`, of the beats of Celery: what they sent becomes schedules, a plan first."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from onebeat.celery.importing import Found, Import, Plan
from onebeat.cli.planned import counted, gone, paragraph, reasons, refuse_pruning, told
from onebeat.cli.schedule import because
from onebeat.cli.session import Session, common, given
from onebeat.cli.words import at, plural, table, trigger_words
from onebeat.core.errors import InvalidInput

Command = TypeVar("Command", bound=Callable[..., Any])


def acting(command: Command) -> Command:
    """Add the options that say how far the import of a beat goes."""
    for option in (
        common,
        because,
        click.option("--force", is_flag=True, help="Let what is imported win over what people changed."),
        click.option("--prune", is_flag=True, help="Remove what is declared there no more."),
        click.option(
            "--apply", "does", is_flag=True, help="Do it; without this the plan is printed, and no more."
        ),
        click.option(
            "--anew", is_flag=True, help="Leave the last runs out: nothing is owed, and periods begin now."
        ),
    ):
        command = option(command)
    return command


def owning(owner: str) -> Callable[[Command], Command]:
    """Return what adds the options of an import that knows no Celery app."""

    def add(command: Command) -> Command:
        for option in (
            click.option(
                "--guarded", is_flag=True, help="The workers have the guard, onebeat.celery.install."
            ),
            click.option(
                "--owner",
                default=owner,
                show_default=True,
                metavar="OWNER",
                help="Whose declarations they are.",
            ),
        ):
            command = option(command)
        return command

    return add


@click.command("celery-beat")
@click.option(
    "-A", "--celery-app", "place", required=True, metavar="APP", help="The Celery app, as for celery -A."
)
@click.option(
    "-s", "--schedule", "file", metavar="FILE", help="Where beat keeps its last runs; else as the app has it."
)
@acting
@given
def celery_beat(session: Session, /, place: str, file: str | None, anew: bool, **acts: Any) -> None:
    """Bring in the beat_schedule of a Celery app: print the plan, and do it with --apply.

    Stop its beat before: what came due since the last runs is owed once, and sent by onebeat. The exit status
    is 1 if an entry could not be imported; the others are.

    Example: onebeat import celery-beat -A proj --apply
    """
    from onebeat.celery.beatfile import last_runs
    from onebeat.celery.library import find_app
    from onebeat.celery.settings import entries_of, owner_of, revision_of, url_of, zone_of

    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        app = find_app(place)
        app.loader.import_default_modules()
        app.finalize()
    except (ImportError, AttributeError) as error:
        raise InvalidInput(f"there is no Celery app {place!r}: {error}; write it as for celery -A") from error
    entries, url = entries_of(app), url_of(app)
    if session.option("url") is None and session.option("app") is None and url is not None:
        session.beat.url = url
    kept = Path(file or app.conf.beat_schedule_filename)
    ran = None if anew else last_runs(kept)
    where = f"of {kept}" if ran is not None else f"there is no {kept}"
    task = Import(
        session.beat, Found(entries, ran or {}), owner=owner_of(app), revision=revision_of(app), source=place
    )
    _do(session, task, zone=zone_of(app), last_runs=ANEW if anew else where, **acts)


@click.command()
@click.argument("redis_url")
@click.option(
    "--prefix", default="redbeat:", show_default=True, help="What its keys begin with: redbeat_key_prefix."
)
@owning("redbeat")
@acting
@given
def redbeat(
    session: Session, /, redis_url: str, prefix: str, owner: str, guarded: bool, anew: bool, **acts: Any
) -> None:
    """Bring in what redbeat keeps in Redis: print the plan, and do it with --apply.

    Stop every beat before: what came due since the last runs is owed once, and sent by onebeat. Nothing is
    written there. Crontabs are read in --zone, which is the timezone of the Celery app. The exit status is 1
    if an entry could not be imported; the others are.

    Example: onebeat import redbeat redis://localhost:6379/1 --zone Europe/Berlin --apply
    """
    from onebeat.celery.redbeat import Redbeat

    zone = session.option("zone") or "UTC"
    with Redbeat(redis_url, prefix) as source:
        if acts["does"]:
            source.refuse_running()
        found = source.found(zone_name=zone, guarded=guarded)
    task = Import(session.beat, found if not anew else found.anew(), owner=owner, source=source.place)
    _do(session, task, zone=zone, last_runs=ANEW if anew else "as redbeat keeps them", **acts)


@click.command("django-celery-beat")
@click.argument("db_url")
@click.option(
    "--local-zone", metavar="ZONE", help="For USE_TZ = False: Django's TIME_ZONE, in which it keeps instants."
)
@owning("django-celery-beat")
@acting
@given
def django_celery_beat(
    session: Session,
    /,
    db_url: str,
    local_zone: str | None,
    owner: str,
    guarded: bool,
    anew: bool,
    **acts: Any,
) -> None:
    """Bring in what django-celery-beat keeps: print the plan, and do it with --apply.

    The URL is that of Django's database: sqlite:///db.sqlite3, postgresql://… or mysql://…; it is only read.
    Stop every beat before: what came due since the last runs is owed once, and sent by onebeat. The exit
    status is 1 if a row could not be imported; the others are.

    Example: onebeat import django-celery-beat postgresql://shop@db/shop --apply
    """
    from onebeat.celery.django_beat import Reader

    zone = session.option("zone") or "UTC"
    source = Reader(db_url, local_zone)
    found = source.found(zone_name=zone, guarded=guarded)
    task = Import(session.beat, found if not anew else found.anew(), owner=owner, source=source.place)
    _do(session, task, zone=zone, last_runs=ANEW if anew else "as its tables keep them", **acts)


ANEW = "left out (--anew)"


def _do(
    session: Session,
    task: Import,
    *,
    zone: str,
    last_runs: str,
    does: bool,
    prune: bool,
    force: bool,
    reason: str,
) -> None:
    """Plan or apply an import, and say what became of it."""
    if does and prune and task.entries.problems:
        refuse_pruning(repr(task.entries.problems[0].entry))
    if does:
        done = task.apply(prune=prune, force=force, reason=reason)
    else:
        done = task.plan(prune=prune, force=force)
    plan = Plan(
        source=task.source,
        owner=task.owner,
        zone=zone,
        last_runs=last_runs,
        applied=does,
        entries=done.planned,
        gone=done.gone,
        problems=task.entries.problems,
        notes=(*task.entries.notes, *done.notes),
        warnings=done.warnings,
    )
    told(session, plan, lambda: _words(session, plan))


def _words(session: Session, plan: Plan) -> Iterator[str]:
    """Yield the paragraphs of a plan."""
    yield f"{plan.source}: times in {plan.zone}; owner {plan.owner}; last runs: {plan.last_runs}."
    rows = [
        (
            f"{each.what.value}{', paused' if each.paused else ''}",
            each.schedule,
            trigger_words(session, each.definition.trigger),
            each.definition.target.address,
            at(session, each.last_run_at),
            at(session, each.owed_at),
        )
        for each in plan.entries
    ]
    yield table(("what", "schedule", "when", "task", "last run", "owed"), rows, "There are no entries.")
    yield from reasons(plan.entries)
    yield from gone(plan, "No entry declares any more:")
    yield from paragraph("Not imported:", [f"  {each.entry}: {each.why}" for each in plan.problems])
    yield from paragraph("Notes:", [f"  {', '.join(note.entries)}: {note.text}" for note in plan.notes])
    owed = sum(each.owed_at is not None for each in plan.entries)
    unread = plural(len(plan.problems), "entr", "ies") if len(plan.problems) != 1 else "1 entry"
    yield counted(plan, plan.entries, unread, f", {plural(owed, 'run')} owed")
