"""`onebeat apply`, `diff` and `export`: declarations and the ledger, to and fro."""

import json
from collections.abc import Mapping
from typing import Any, TextIO

import click

from onebeat.cli.schedule import because
from onebeat.cli.session import Session, common, given
from onebeat.cli.words import document, plural, progress, table, warn
from onebeat.core.codec import FORMAT, from_data, to_data
from onebeat.core.errors import InvalidInput
from onebeat.core.model import Definition, checked_name
from onebeat.core.reconcile import Step, Verb

DIFFERS = 1
SHOWN_VERBS = (Verb.CREATE, Verb.CHANGE, Verb.REMOVE)

manifest = click.argument("manifest", type=click.File(encoding="utf-8"), required=False, metavar="[FILE]")
prune = click.option("--prune", is_flag=True, help="Remove what is declared no more, whatever the revision.")
force = click.option("--force", is_flag=True, help="Let declarations win over what people changed.")


def _keep_owner(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    context.ensure_object(Session).set(owner=value)
    return value


owned = click.option(
    "--owner",
    metavar="OWNER",
    expose_value=False,
    callback=_keep_owner,
    help="Whose declarations the file holds (without --app; by default app).",
)


@click.command()
@manifest
@prune
@force
@click.option("--revision", type=click.IntRange(0), metavar="N", help="The revision that is declared.")
@owned
@because
@common
@given
def apply(
    session: Session, manifest: TextIO | None, prune: bool, force: bool, revision: int | None, reason: str
) -> None:
    """Bring the ledger to what the app declares, or a FILE that `onebeat export` wrote ('-': stdin).

    Example: onebeat apply --app shop.beat:beat --revision 42
    """
    wanted = _read(session, manifest)
    with progress(session, "applying", len(session.beat.declared if wanted is None else wanted)) as done:
        applied = session.beat.apply(
            prune=prune, force=force, revision=revision, reason=reason, definitions=wanted, progress=done
        )
    if not session.as_json:
        warn(applied.warnings)
    document(session, applied, lambda: _steps(applied.steps, "done"))


@click.command()
@manifest
@prune
@force
@owned
@click.option("--exit-code", is_flag=True, help="Exit with 1 where apply would change something.")
@common
@given
def diff(session: Session, manifest: TextIO | None, prune: bool, force: bool, exit_code: bool) -> None:
    """Print what `onebeat apply` would do, and do nothing.

    Example: onebeat diff --app shop.beat:beat
    """
    steps = session.beat.diff(prune=prune, force=force, definitions=_read(session, manifest))
    document(session, {"steps": steps}, lambda: _steps(tuple(steps), "to do"))
    if exit_code and any(step.verb in SHOWN_VERBS for step in steps):
        raise click.exceptions.Exit(DIFFERS)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--tag", metavar="TAG", help="Only schedules that carry this tag.")
@click.option("--owner", "of", metavar="OWNER", help="Only those that this owner declares.")
@click.option("--declared", is_flag=True, help="What the app declares, instead of what the ledger has.")
@common
@given
def export(session: Session, names: tuple[str, ...], tag: str | None, of: str | None, declared: bool) -> None:
    """Print definitions as one JSON document, which `onebeat apply` reads.

    Example: onebeat export --tag billing > billing.json
    """
    schedules = session.beat.schedules
    found: Mapping[str, Definition] = (
        session.beat.declared if declared else schedules.definitions(tag=tag, owner=of)
    )
    if names:
        for name in names:
            if name not in found:
                schedules.show(name)  # raises, and says what there is
        found = {name: found[name] for name in names}
    data = {name: to_data(definition) for name, definition in sorted(found.items())}
    text = json.dumps({"format": FORMAT, "schedules": data}, indent=2, ensure_ascii=False)
    click.echo(text)


def _read(session: Session, manifest: TextIO | None) -> dict[str, Definition] | None:
    """Return the definitions of a file; None for none: then the app's own stand."""
    if manifest is None:
        if session.option("app") is None:
            raise InvalidInput("there is nothing to compare: name the app with --app, or give a FILE")
        return None
    try:
        read = json.load(manifest)
    except ValueError as error:
        raise InvalidInput(f"{manifest.name} is no JSON: {error}") from None
    if not isinstance(read, dict) or not isinstance(read.get("schedules"), dict):
        raise InvalidInput(f"{manifest.name} is no export: it has no object 'schedules'")
    if read.get("format") != FORMAT:
        raise InvalidInput(
            f"{manifest.name} has format {read.get('format')!r}, and this onebeat reads {FORMAT}; "
            "upgrade the older of the two"
        )
    return {checked_name(name): from_data(data, Definition) for name, data in read["schedules"].items()}


def _steps(steps: tuple[Step, ...], word: str) -> str:
    rows = [
        (step.verb.value, step.name, ", ".join(step.changed), step.why)
        for step in steps
        if step.verb in SHOWN_VERBS or step.conflicts
    ]
    same = sum(step.verb in (Verb.KEEP, Verb.STAMP) and not step.conflicts for step in steps)
    counted = f"{plural(len(steps) - same, 'schedule')} {word}, {same} as declared."
    return counted if not rows else table(("what", "schedule", "fields", "why"), rows, "") + f"\n{counted}"
