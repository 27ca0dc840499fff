"""`onebeat demo`: play the story, judge it, let the product's own audit have the last word."""

import contextlib
import json
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from onebeat.demo import report
from onebeat.demo.expect import instant
from onebeat.demo.ledger import Ledger
from onebeat.demo.nodes import onebeat
from onebeat.demo.outside import read
from onebeat.demo.story import Story, StoryFailed
from onebeat.demo.teller import Teller
from onebeat.demo.verdict import Case, Verdict, judge

SECONDS_MIN = 20
FAILED = 1
WIDTH = 120
INDENT = 11


@click.command("demo")
@click.option(
    "--seconds",
    type=click.IntRange(SECONDS_MIN, 3600),
    default=40,
    show_default=True,
    help="About how long the demo lasts.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the ledger, the outside file and the nodes' logs in this folder, which must be empty or new.",
)
@click.option(
    "--sabotage", is_flag=True, help="Damage the ledger behind its back: the demo must notice, and fail."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and no story.")
def demo(seconds: int, keep: Path | None, sabotage: bool, as_json: bool) -> int:
    """Run three nodes on one SQLite file, break things, and count.

    One node is killed, one is stopped past its lease, schedules are changed while they fire. Then a file that
    the runs wrote is compared with the ledger, by code that shares nothing with the product, and `onebeat
    audit` says what it thinks. The exit status is 0 only if nothing was missed and nothing doubled.

    Example: onebeat demo --seconds 60 --keep /tmp/demo
    """
    with _folder(keep) as folder:
        teller = Teller(seconds, None if as_json else sys.stdout)
        story = Story(folder, seconds, teller, sabotaged=sabotage)
        try:
            story.play()
        except StoryFailed as error:
            raise click.ClickException(f"the demo could not go on: {error}") from None
        verdict = _judged(story)
        audit = _audit(story, as_json)
        passed = verdict.ok and not story.troubles and audit.returncode == 0
        if as_json:
            click.echo(json.dumps(_data(story, verdict, audit, passed), indent=2))
        else:
            _tell(story, teller, verdict, audit, passed)
    return 0 if passed else FAILED


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give a folder: a temporary one, or the one to keep."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="onebeat-demo-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise click.UsageError(f"{keep} is not empty; give a new folder, so that nothing in it is mixed up")
    yield keep.resolve()


def _judged(story: Story) -> Verdict:
    ledger = Ledger(story.ledger_path)
    try:
        picture = ledger.picture()
    finally:
        ledger.close()
    return judge(
        Case(
            picture=picture,
            lines=read(story.outside_path),
            deeds=story.deeds,
            policies=story.policies,
            closed=story.closed,
            held=story.held,
        )
    )


def _audit(story: Story, as_json: bool) -> subprocess.CompletedProcess[str]:
    until = instant(story.closed).isoformat()
    words = ["audit", "--until", until, *(["--json"] if as_json else [])]
    return subprocess.run(
        onebeat(*words), env=story.environment, capture_output=True, text=True, timeout=120, check=False
    )


def _tell(
    story: Story, teller: Teller, verdict: Verdict, audit: subprocess.CompletedProcess[str], passed: bool
) -> None:
    teller.write()
    teller.write(f"What {verdict.schedules} schedules on {len(story.nodes)} nodes came to:")
    teller.write()
    for line in report.table(verdict, story.troubles, killed=story.killed, frozen=story.frozen):
        teller.write(line)
    teller.write()
    teller.write("What `onebeat audit` says of the same ledger (its lateness has what was held in it):")
    teller.write()
    for line in (audit.stdout + audit.stderr).rstrip().splitlines():
        for part in textwrap.wrap(line, WIDTH, subsequent_indent=" " * INDENT) or [""]:
            teller.write(f"  {part}".rstrip())
    teller.write()
    teller.write(_conclusion(verdict, audit.returncode, passed))


def _conclusion(verdict: Verdict, audit_status: int, passed: bool) -> str:
    if passed:
        return "Nothing was missed, and nothing doubled."
    said = (
        [] if verdict.ok else [f"{verdict.missed} missed, {verdict.doubled} doubled, {verdict.other} other"]
    )
    said += [f"the audit ended with {audit_status}"] if audit_status else []
    return f"This ledger is NOT right: {'; '.join(said) or 'see above'}."


def _data(
    story: Story, verdict: Verdict, audit: subprocess.CompletedProcess[str], passed: bool
) -> dict[str, Any]:
    try:
        said = json.loads(audit.stdout)
    except ValueError:
        said = audit.stdout + audit.stderr
    return {
        "passed": passed,
        "verdict": report.data(verdict, story.troubles, killed=story.killed, frozen=story.frozen),
        "audit": {"exit_status": audit.returncode, "said": said},
    }
