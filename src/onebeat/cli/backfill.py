"""`onebeat backfill`: runs for past occurrences, a plan first."""

import click

from onebeat.app.backfill import BackfillPlan
from onebeat.cli.schedule import because
from onebeat.cli.session import Session, common, given
from onebeat.cli.words import at, document, pairs, plural, progress, warn
from onebeat.core.durations import span


@click.command()
@click.argument("name")
@click.option("--since", required=True, metavar="TIME", help="Occurrences from this instant on.")
@click.option("--until", metavar="TIME", help="Occurrences before this instant; by default until now.")
@click.option("--apply", "does", is_flag=True, help="Do it; without this the plan is printed, and no more.")
@click.option(
    "--max-running", type=click.IntRange(1), metavar="N", help="Its unfinished runs at once; else no limit."
)
@click.option("--rate", metavar="N/UNIT", help="Ask no faster: 5/s, 30/m, 100/h, 1000/d.")
@click.option("--reverse", is_flag=True, help="The newest first.")
@because
@common
@given
def backfill(
    session: Session,
    name: str,
    since: str,
    until: str | None,
    does: bool,
    max_running: int | None,
    rate: str | None,
    reverse: bool,
    reason: str,
) -> None:
    """Ask for a run for each past occurrence that has none: print the plan, and do it with --apply.

    Settles nothing and moves no mark. Interrupted and begun again, it goes on where it was.

    Example: onebeat backfill report --since 2026-11-01T00:00 --max-running 2 --apply
    """
    begin = session.instant(since)
    end = session.instant("now" if until is None else until)
    runs = session.beat.runs
    plan = runs.backfill_plan(name, begin, end, rate=rate)
    if not session.as_json:
        warn(plan.warnings)
    if not does:
        todo = "Nothing was done; --apply does it." if plan.missing else "There is nothing to do."
        document(session, {"plan": plan, "made": None}, lambda: f"{_words(session, plan)}\n\n{todo}")
        return
    if not session.as_json:
        click.echo(_words(session, plan), err=True)
    made = done = 0
    try:
        with progress(session, "backfilling", plan.missing) as more:

            def told(count: int) -> None:
                nonlocal done
                done += count
                more(count)

            made = runs.backfill(
                name,
                begin,
                end,
                max_running=max_running,
                rate=rate,
                reverse=reverse,
                reason=reason,
                progress=told,
            )
    except BaseException:  # Ctrl-C too: whoever interrupts it wants to know how far it was
        warn([f"{done:,} of {plan.missing:,} were asked for, and go on; the same command asks for the rest"])
        raise
    document(session, {"plan": plan, "made": made}, lambda: f"{plural(made, 'run')} asked for.")


def _words(session: Session, plan: BackfillPlan) -> str:
    return pairs(
        [
            ("schedule", plan.schedule),
            ("occurrences", f"{plan.occurrences:,}"),
            ("first", at(session, plan.first_at)),
            ("last", at(session, plan.last_at)),
            ("have a run", f"{plan.present:,}"),
            ("to be made", f"{plan.missing:,}"),
            ("takes", "" if plan.takes is None else f"at least {span(plan.takes)}"),
        ]
    )
