"""`onebeat apply`, `diff` and `export`: declarations and the ledger, to and fro."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TextIO

import click
from msgspec.structs import replace

from onebeat.cli.schedule import because
from onebeat.cli.session import Session, common, given
from onebeat.cli.words import document, plural, progress, table, warn
from onebeat.core.codec import FORMAT, to_data
from onebeat.core.errors import InvalidInput, NotFound, near_miss, shown
from onebeat.core.exporting import written
from onebeat.core.manifest import read_manifest
from onebeat.core.model import Definition
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
    help="Whose declarations these are; else as the file says, else the app's.",
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
    """Bring the ledger to what the app declares, or a FILE: a manifest in TOML, or an export ('-': stdin).

    Example: onebeat apply schedules.toml --revision 42
    """
    read = _read(session, manifest)
    wanted = session.beat.declared if read.definitions is None else read.definitions
    with progress(session, "applying", len(wanted)) as done:
        applied = session.beat.apply(
            prune=prune,
            force=force,
            owner=read.owner,
            revision=read.revision if revision is None else revision,
            reason=reason,
            definitions=wanted,
            progress=done,
        )
    applied = replace(applied, warnings=(*read.notes, *applied.warnings))
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

    Example: onebeat diff schedules.toml
    """
    read = _read(session, manifest)
    steps = session.beat.diff(
        prune=prune, force=force, owner=read.owner, revision=read.revision, definitions=read.definitions
    )
    if not session.as_json:
        warn(read.notes)
    document(session, {"steps": steps, "warnings": read.notes}, lambda: _steps(tuple(steps), "to do"))
    if exit_code and any(step.verb in SHOWN_VERBS for step in steps):
        raise click.exceptions.Exit(DIFFERS)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--tag", metavar="TAG", help="Only schedules that carry this tag.")
@click.option("--owner", "of", metavar="OWNER", help="Only those that this owner declares.")
@click.option("--declared", is_flag=True, help="What the app declares, instead of what the ledger has.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["toml", "json"]),
    default="toml",
    show_default=True,
    help="A manifest for people, or the JSON of the ledger; --json says json.",
)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of manifests instead.")
@common
@given
def export(
    session: Session,
    names: tuple[str, ...],
    tag: str | None,
    of: str | None,
    declared: bool,
    form: str,
    schema: bool,
) -> None:
    """Print definitions as one document, which `onebeat apply` reads.

    Example: onebeat export --tag billing > billing.toml
    """
    if schema:
        from onebeat.cli.manifest_schema import schema as schema_of_manifests

        click.echo(json.dumps(schema_of_manifests(), indent=2))
        return
    beat = session.beat
    rows = () if declared else tuple(beat.schedules.find(tag=tag, owner=of))
    found = dict(beat.declared) if declared else {row.name: row.definition for row in rows}
    for name in names:
        if name not in found and not declared:
            beat.schedules.show(name)  # raises, and says what there is
        if name not in found:
            raise NotFound(f"the app declares no {shown(name)}{near_miss(name, found)}")
    if names:
        found = {name: found[name] for name in names}
    if form == "json" or session.as_json:
        data = {name: to_data(definition) for name, definition in sorted(found.items())}
        click.echo(json.dumps({"format": FORMAT, "schedules": data}, indent=2, ensure_ascii=False))
        return
    # Whose they are goes along where it is one alone: applying the file then declares as they do.
    revisions = {row.owner: 0 for row in rows if row.owner and row.name in found}
    for row in rows:
        if row.owner in revisions:
            revisions[row.owner] = max(revisions[row.owner], row.revision)
    if declared:
        revisions = {beat.owner: beat.revision}
    owner, revision = next(iter(revisions.items())) if len(revisions) == 1 else (None, None)
    click.echo(written(found, owner=owner, revision=revision), nl=False)


def _read(session: Session, manifest: TextIO | None) -> "_Read":
    """Read a file; without one the app's own declarations stand."""
    if manifest is None:
        if session.option("app") is None:
            raise InvalidInput("there is nothing to compare: name the app with --app, or give a FILE")
        return _Read()
    named = session.option("app") or session.option("zone")
    try:
        text = manifest.read()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{manifest.name} is no text in UTF-8: {error}") from None
    read = read_manifest(text, manifest.name, zone=session.beat.zone if named else None)
    # What is said on the command line is nearer to the person than what stands in the file.
    return _Read(read.definitions, session.option("owner") or read.owner, read.revision, read.notes)


class _Read(NamedTuple):
    """What a file says; all of it None for no file."""

    definitions: Mapping[str, Definition] | None = None
    owner: str | None = None
    revision: int | None = None
    notes: tuple[str, ...] = ()


def _steps(steps: tuple[Step, ...], word: str) -> str:
    rows = [
        (step.verb.value, step.name, ", ".join(step.changed), step.why)
        for step in steps
        if step.verb in SHOWN_VERBS or step.conflicts
    ]
    same = sum(step.verb in (Verb.KEEP, Verb.STAMP) and not step.conflicts for step in steps)
    counted = f"{plural(len(steps) - same, 'schedule')} {word}, {same} as declared."
    return counted if not rows else table(("what", "schedule", "fields", "why"), rows, "") + f"\n{counted}"
