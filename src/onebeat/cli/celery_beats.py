"""`onebeat import celery-beat`: what a Celery beat sent becomes schedules, a plan first."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from onebeat.celery.importing import Import, Plan
from onebeat.cli.schedule import because
from onebeat.cli.session import Session, common, given
from onebeat.cli.words import at, document, plural, table, trigger_words, warn
from onebeat.core.errors import InvalidInput, Refused
from onebeat.core.reconcile import Verb

UNREADABLE = 1


@click.command("celery-beat")
@click.option(
    "-A", "--celery-app", "place", required=True, metavar="APP", help="The Celery app, as for celery -A."
)
@click.option(
    "-s", "--schedule", "file", metavar="FILE", help="Where beat keeps its last runs; else as the app has it."
)
@click.option("--anew", is_flag=True, help="Leave the last runs out: nothing is owed, and periods begin now.")
@click.option("--apply", "does", is_flag=True, help="Do it; without this the plan is printed, and no more.")
@click.option("--prune", is_flag=True, help="Remove what the app declares no more.")
@click.option("--force", is_flag=True, help="Let the app win over what people changed.")
@because
@common
@given
def celery_beat(
    session: Session,
    place: str,
    file: str | None,
    anew: bool,
    does: bool,
    prune: bool,
    force: bool,
    reason: str,
) -> None:
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
    entries, owner, url = entries_of(app), owner_of(app), url_of(app)
    if session.option("url") is None and session.option("app") is None and url is not None:
        session.beat.url = url
    kept = Path(file or app.conf.beat_schedule_filename)
    ran = None if anew else last_runs(kept)
    if does and prune and entries.problems:
        raise Refused(
            f"--prune would remove what {entries.problems[0].entry!r} stood for before it was broken; mend "
            "it, or apply without --prune"
        )
    task = Import(session.beat, entries, ran or {}, owner=owner, revision=revision_of(app))
    if does:
        planned, gone, warnings = task.apply(prune=prune, force=force, reason=reason)
    else:
        planned, gone, warnings = task.plan(prune=prune, force=force)
    plan = Plan(
        source=place,
        owner=owner,
        zone=zone_of(app),
        last_runs="left out (--anew)" if anew else f"of {kept}" if ran is not None else f"there is no {kept}",
        applied=does,
        entries=tuple(planned),
        gone=tuple(gone),
        problems=entries.problems,
        notes=entries.notes,
        warnings=warnings,
    )
    if not session.as_json:
        warn(warnings)
    document(session, plan, lambda: "\n\n".join(_words(session, plan)))
    if entries.problems:
        raise click.exceptions.Exit(UNREADABLE)


def _words(session: Session, plan: Plan) -> Iterator[str]:
    """Yield the paragraphs of a plan."""
    yield f"{plan.source}: times in {plan.zone}; owner {plan.owner}; last runs: {plan.last_runs}."
    rows = [
        (
            each.what.value,
            each.schedule,
            trigger_words(session, each.definition.trigger),
            each.definition.target.address,
            at(session, each.last_run_at),
            at(session, each.owed_at),
        )
        for each in plan.entries
    ]
    yield table(("what", "schedule", "when", "task", "last run", "owed"), rows, "The app has no entries.")
    reasons = [
        f"  {each.what.value} {each.schedule}: {each.why}"
        for each in plan.entries
        if each.what is not Verb.CREATE and each.why != "as declared"
    ]
    if reasons:
        yield "\n".join(["Why:", *reasons])
    if plan.gone:
        gone = [f"  {step.verb.value} {step.name}: {step.why}" for step in plan.gone]
        yield "\n".join(["No entry declares any more:", *gone])
    if plan.problems:
        yield "\n".join(["Not imported:", *(f"  {each.entry}: {each.why}" for each in plan.problems)])
    if plan.notes:
        yield "\n".join(["Notes:", *(f"  {', '.join(note.entries)}: {note.text}" for note in plan.notes)])
    yield _counted(plan)


def _counted(plan: Plan) -> str:
    verbs = [each.what for each in plan.entries] + [step.verb for step in plan.gone]
    changes = sum(verb in (Verb.CREATE, Verb.CHANGE, Verb.REMOVE) for verb in verbs)
    owed = sum(each.owed_at is not None for each in plan.entries)
    unread = f", {plural(len(plan.problems), 'entry', '')} not imported" if plan.problems else ""
    counted = f"{plural(changes, 'schedule')} {'done' if plan.applied else 'to do'}, "
    counted += f"{len(verbs) - changes:,} as they are, {plural(owed, 'run')} owed{unread}."
    if plan.applied or not changes:
        return counted
    return f"{counted} Nothing was done; --apply does it."
