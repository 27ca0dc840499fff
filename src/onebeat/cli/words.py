"""How answers look: tables for people, one JSON document for programs, bars on stderr for patience."""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import click

from onebeat.cli.session import Session
from onebeat.core.codec import to_data
from onebeat.core.model import Json, TriggerSpec

CELL_MAX = 60


def document(session: Session, data: object, text: Callable[[], str]) -> None:
    """Print an answer: as JSON where that was asked for, else in words."""
    if session.as_json:
        click.echo(json.dumps(to_data(data), indent=2, ensure_ascii=False))
    else:
        click.echo(text())


def table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> str:
    """Return rows under a head, in columns; ``empty`` where there are none."""
    if not rows:
        return empty
    cells = [[cut(cell) for cell in row] for row in rows]
    widths = [max(width(row[place]) for row in [list(head), *cells]) for place in range(len(head))]
    lines = [[title.upper() for title in head], *cells]
    return "\n".join(
        "  ".join(c + " " * (w - width(c)) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in lines
    )


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes: a Chinese character takes two."""
    return len(text) + sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and values in two columns, without those that have no value."""
    width = max((len(name) for name, value in rows if value), default=0)
    return "\n".join(
        f"{name.ljust(width)}  {value.replace(chr(10), chr(10) + ' ' * (width + 2))}"
        for name, value in rows
        if value
    )


def cut(text: str, limit: int = CELL_MAX) -> str:
    """Return a text that fits a cell."""
    line = text.replace("\n", " ")
    if width(line) <= limit:
        return line
    while width(line) >= limit:
        line = line[:-1]
    return line + "…"


def at(session: Session, instant: datetime | None) -> str:
    """Return an instant in the zone of this session, an empty text for none."""
    if instant is None:
        return ""
    from onebeat.core.triggers import zone

    return instant.astimezone(zone(session.zone)).isoformat(" ")


def trigger_words(session: Session, spec: TriggerSpec) -> str:
    """Return a trigger as people would say it, in the language of this session."""
    from onebeat.core.triggers import words

    return words(spec, session.lang)


def cron_texts(value: TriggerSpec | Json) -> list[str]:
    """Return the cron expressions of a trigger, and of everything nested in it, as they were written."""
    if isinstance(value, list):
        return [text for each in value for text in cron_texts(each)]
    if not isinstance(value, (TriggerSpec, dict)):
        return []
    kind, fields = (
        (value.kind, value.fields)
        if isinstance(value, TriggerSpec)
        else (value.get("kind"), value.get("fields"))
    )
    if not isinstance(fields, dict):
        return []
    if kind == "cron":
        return [str(fields.get("expression"))]
    return [text for each in fields.values() for text in cron_texts(each)]


def warn(warnings: Sequence[str]) -> None:
    """Say on stderr what a person should know beside the answer."""
    for warning in warnings:
        click.echo(f"note: {warning}", err=True)


@contextmanager
def progress(session: Session, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how much more is done; a bar on stderr where a person watches."""
    if total is None or not watched() or session.as_json:
        yield lambda done: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield bar.update


def watched() -> bool:
    """Return whether a person sees what is said beside the answer."""
    return sys.stderr.isatty()


def sure(question: str, yes: bool) -> None:
    """Ask at a terminal; elsewhere --yes has to say it. Raises Abort or UsageError where it is not wanted."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Say so with --yes; nobody is here to ask.")
    click.confirm(question, abort=True, err=True)


def flat(words: Sequence[str]) -> list[str]:
    """Return words given one by one or with commas between them."""
    return [word for given in words for word in given.replace(",", " ").split()]


def plural(count: int, word: str, more: str = "s") -> str:
    """Return a count with its word."""
    return f"{count:,} {word}{'' if count == 1 else more}"
