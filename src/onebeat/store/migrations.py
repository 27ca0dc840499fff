"""The steps by which a ledger's tables came to be, in numbered SQL files for each dialect.

A number has two steps. ``pre`` only adds, so nodes of the version before go on working beside it; a node
makes it when it starts. ``post`` takes away what no node needs any more; a person makes it, with `onebeat
migrate`, when every node is new. So a node works with a ledger whose pre steps reach at least its own number
and whose post steps do not go beyond it; anything else is refused before anything is read.

    001_pre_ledger.sqlite.sql        number, step, what, dialect

All missing steps are made in one transaction, which first looks again at what is there: any number of nodes
may start at once, and one that dies on the way leaves nothing.
"""

import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import NamedTuple

from onebeat.core.codec import FORMAT
from onebeat.core.errors import SchemaMismatch
from onebeat.core.model import micros
from onebeat.store.dialects.protocol import MIGRATE, AddMissing, Dialect, Session

PRE, POST = "pre", "post"
STEPS = "onebeat_steps"
STEPS_TABLE = (
    f"CREATE TABLE IF NOT EXISTS {STEPS} (number INTEGER NOT NULL, step VARCHAR(4) NOT NULL, "
    "what VARCHAR(100) NOT NULL, applied_at BIGINT NOT NULL, PRIMARY KEY (number, step))"
)
STEP_MADE = f"INSERT INTO {STEPS} (number, step, what, applied_at) VALUES (?, ?, ?, ?)"
FORMAT_READ = "SELECT value FROM onebeat_meta WHERE name = 'format'"
FORMAT_SET = AddMissing("INSERT INTO onebeat_meta (name, value) VALUES ('format', ?)", "name")

_NAME = re.compile(r"(\d{3})_(pre|post)_(\w+)\.(\w+)\.sql")


class Step(NamedTuple):
    """One file: what it is called, and its statements."""

    number: int
    step: str
    what: str
    sql: str


def steps(kind: str) -> list[Step]:
    """Return all steps of a dialect in the order in which they are made."""
    found = []
    for file in resources.files("onebeat.store").joinpath("schema").iterdir():
        name = _NAME.fullmatch(file.name)
        if name is not None and name[4] == kind:
            found.append(Step(int(name[1]), name[2], name[3], file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda step: (step.number, step.step != PRE))


def made(session: Session) -> set[tuple[int, str]]:
    """Return which steps a ledger has made, as (number, step); none for an empty database."""
    if not session.has_table(STEPS):
        return set()
    return {(number, step) for number, step in session.rows(f"SELECT number, step FROM {STEPS}")}


def check(dialect: Dialect) -> None:
    """Raise SchemaMismatch unless this code and the ledger's tables go together. Reads only."""
    dialect.read(lambda session: _check(session, steps(dialect.kind)))


def migrate(dialect: Dialect, *, finish: bool = False) -> list[Step]:
    """Make the missing steps, and return them; post steps only when told to ``finish``. Safe to repeat.

    Raises SchemaMismatch, changing nothing, when the ledger is newer than this code.
    """
    known = steps(dialect.kind)

    def work(session: Session) -> list[Step]:
        session.gate(MIGRATE)
        there = made(session)
        _refuse_newer(session, there, known)
        missing = _missing(there, known, finish=finish)
        session.run(STEPS_TABLE)
        for step in missing:
            session.run(step.sql)
            session.run(STEP_MADE, (step.number, step.step, step.what, micros(session.now())))
        session.run(FORMAT_SET, (FORMAT,))
        return missing

    if not dialect.read(lambda session: _needs(session, known, finish=finish)):
        return []
    return dialect.write(work)


def script(kind: str, have: Iterable[tuple[int, str]] = (), *, finish: bool = False) -> str:
    """Return the missing steps as one SQL text, for an administrator who makes them by hand."""
    parts = [f"-- The steps of onebeat's ledger on {kind}. Make them in one transaction.", f"{STEPS_TABLE};"]
    have = set(have)
    for step in _missing(have, steps(kind), finish=finish):
        made_by_hand = STEP_MADE.replace("?, ?, ?, ?", f"{step.number}, '{step.step}', '{step.what}', 0")
        parts += [f"-- {step.number:03} {step.step} {step.what}", step.sql.rstrip(), f"{made_by_hand};"]
    if not have:
        parts.append(f"{FORMAT_SET.insert.replace('?', str(FORMAT))};")
    return "\n\n".join(parts) + "\n"


def _missing(there: set[tuple[int, str]], known: Sequence[Step], *, finish: bool) -> list[Step]:
    return [step for step in known if (step.number, step.step) not in there and (finish or step.step == PRE)]


def _needs(session: Session, known: Sequence[Step], *, finish: bool) -> bool:
    there = made(session)
    _refuse_newer(session, there, known)
    return bool(_missing(there, known, finish=finish))


def _check(session: Session, known: Sequence[Step]) -> None:
    there = made(session)
    _refuse_newer(session, there, known)
    missing = _missing(there, known, finish=False)
    if missing:
        has = max((number for number, _ in there), default=0)
        raise SchemaMismatch(
            f"the ledger's tables are at step {has}, and this onebeat needs {missing[-1].number}; "
            "run `onebeat migrate`, or let a node do it by starting without --no-migrate"
        )


def _refuse_newer(session: Session, there: set[tuple[int, str]], known: Sequence[Step]) -> None:
    latest = max((step.number for step in known), default=0)
    finished = max((number for number, step in there if step == POST), default=0)
    if finished > latest:
        raise SchemaMismatch(
            f"the tables are finished at step {finished}, and this onebeat knows steps up to {latest}; "
            "upgrade this node"
        )
    written = session.row(FORMAT_READ) if there else None
    if written is not None and int(written[0]) > FORMAT:
        raise SchemaMismatch(
            f"the ledger's documents have format {written[0]}, and this onebeat reads up to {FORMAT}; "
            "upgrade this node"
        )
