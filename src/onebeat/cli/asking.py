"""`onebeat preview`, `why` and `audit`: what will come, what became of it, and whether it is all there."""

import click

from onebeat.app.proof import Report
from onebeat.cli.session import Session, common, given
from onebeat.cli.wanted import previewed
from onebeat.cli.words import at, cut, document, pairs, plural, progress, table
from onebeat.core.audit import Audited

NOT_RIGHT = 1
FINDINGS_SHOWN = 20


@click.command()
@click.argument("what", metavar="NAME|EXPRESSION", required=False)
@click.option("--rrule", "rule", metavar="TEXT", help="A recurrence rule, e.g. 'FREQ=MONTHLY;BYDAY=-1FR'.")
@click.option("--trigger", metavar="JSON", help="Any trigger, as its JSON.")
@click.option("--from", "begin", metavar="TIME", help="Occurrences after this instant; by default after now.")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many.")
@common
@given
def preview(
    session: Session, what: str | None, rule: str | None, trigger: str | None, begin: str | None, count: int
) -> None:
    """Print the next occurrences of a schedule, or of a cron expression or another trigger. Fires nothing.

    Example: onebeat preview "30 2 * * *" --zone America/New_York --from 2026-03-07T00:00 -n 5
    """
    after = None if begin is None else session.instant(begin)
    asked = previewed(session, what, rule, trigger)
    found = session.beat.preview(asked, count, after=after, zone=session.option("zone"))
    lines = [instant.isoformat() for instant in found]
    when = session.beat.words(asked, session.lang, zone=session.option("zone"))
    if session.as_json:
        document(session, {"words": when, "occurrences": lines}, str)
    else:
        click.echo(when, err=True)
        document(session, None, lambda: "\n".join(lines) or "There is none.")


@click.command()
@click.argument("name")
@click.option("--at", "instant", required=True, metavar="TIME", help="The instant of the occurrence.")
@common
@given
def why(session: Session, name: str, instant: str) -> None:
    """Say what became of one occurrence, and why: one paragraph, out of the ledger.

    Example: onebeat why report --at 2026-11-21T09:00 --zone Asia/Shanghai
    """
    answer = session.beat.why(name, session.instant(instant))
    document(session, answer, lambda: answer.text)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--tag", metavar="TAG", help="Only schedules that carry this tag.")
@click.option("--since", metavar="TIME", help="From this instant; by default from the beginning.")
@click.option("--until", metavar="TIME", help="Until this instant; by default until now.")
@common
@given
def audit(
    session: Session, names: tuple[str, ...], tag: str | None, since: str | None, until: str | None
) -> None:
    """Prove the ledger: every expected occurrence against what was settled, gaps, extras, lateness.

    The exit status is 0 only if nothing is missing, nothing is there twice, nothing fired early, and no mark
    was set back.

    Example: onebeat audit --since now-1d
    """
    rows = session.beat.audited(names or None, tag=tag)
    with progress(session, "auditing", len(rows)) as done:
        report = session.beat.audit(
            [row.name for row in rows],
            since=None if since is None else session.instant(since),
            until=None if until is None else session.instant(until),
            progress=done,
        )
    document(session, report, lambda: _report(session, report))
    if not report.right:
        raise click.exceptions.Exit(NOT_RIGHT)


def _report(session: Session, report: Report) -> str:
    late = report.lateness
    found = [finding for each in report.schedules for finding in each.findings]
    amiss = [
        (finding.kind, finding.schedule, at(session, finding.until_at), str(finding.count), finding.what)
        for finding in found[:FINDINGS_SHOWN]
    ]
    skipped = ", ".join(f"{count} {reason}" for reason, count in report.skipped.items())
    begin = min((each.provable_from for each in report.schedules if each.provable_from), default=report.since)
    lines = [
        pairs(
            [
                ("verdict", "right: nothing missing, nothing twice" if report.right else "NOT RIGHT"),
                ("schedules", f"{len(report.schedules):,}"),
                ("from", at(session, max(begin, report.since))),
                ("until", at(session, report.until)),
                ("expected", f"{report.expected:,}"),
                ("fired", f"{report.fired:,}"),
                ("folded", f"{report.folded:,}"),
                ("skipped", skipped or "0"),
                ("owed now", f"{report.owed:,}"),
                ("gaps", f"{report.gaps:,}"),
                ("extras", f"{report.extras:,}"),
                ("early", f"{report.early:,}"),
                *([("set back", f"{report.set_back:,}")] if report.set_back else []),
                ("lateness", "" if not late.fires else _late(late.p50_s, late.p99_s, late.max_s)),
                ("proven by", _proven(session, report.schedules)),
                ("ledger", f"{report.place}; {report.durability}"),
            ]
        )
    ]
    if amiss:
        lines.append(table(("what", "schedule", "until", "count", "because"), amiss, ""))
    if len(found) > FINDINGS_SHOWN:
        lines.append(f"… and {plural(len(found) - FINDINGS_SHOWN, 'finding')} more; --json has them all")
    return "\n\n".join(lines)


def _late(*seconds: float | None) -> str:
    words = [
        f"{name} {value * 1000:.1f} ms"
        for name, value in zip(("p50", "p99", "max"), seconds, strict=True)
        if value is not None
    ]
    return ", ".join(words)


def _proven(session: Session, schedules: tuple[Audited, ...]) -> str:
    by = {
        proof: sum(each.proof == proof and each.not_before is None for each in schedules)
        for proof in ("rows", "summary", "tiles")
    }
    said = [f"{proof}: {count}" for proof, count in by.items() if count]
    for each in schedules:
        if each.not_before is not None:
            said.append(f"not provable before {at(session, each.not_before)}: {each.schedule}")
        said += [f"{each.schedule}: {cut(note, 100)}" for note in each.notes]
    return "\n".join(said) or "there is nothing to prove"
