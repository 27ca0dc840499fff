"""Groups in the SQL store: one row each, which remembers the run that was let out last.

Whether that run still is out, its own row says: nothing has to be taken back when it ends, is lost or goes.
Whoever lets a run out holds the group's row from before it looks until it commits. Nobody waits for it: a
group that somebody else holds is about to have a run out, so a claim passes it by, and a guard is refused.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from onebeat.core.messages import AnyTransition
from onebeat.core.model import Run
from onebeat.store.dialects.protocol import BatchUpdate, Session
from onebeat.store.lanes import OPENING, OUT, lets_out

GROUP_NAMED = "SELECT name FROM onebeat_groups WHERE name = ?"
GROUP_ADDED = "INSERT INTO onebeat_groups (name) VALUES (?)"
GROUPS_HELD = "SELECT name FROM onebeat_groups WHERE name IN {keys} ORDER BY name"
# Worded so that the index of states does not serve it: each run is found by its id.
RUNS_OUT = """WITH wanted (name) AS (VALUES {rows})
    SELECT g.name, r.id FROM wanted AS w JOIN onebeat_groups AS g ON g.name = w.name
    JOIN onebeat_runs AS r ON r.id = g.run_id WHERE (r.state || '') IN ('sent', 'running')"""
LET_OUT = BatchUpdate(
    "onebeat_groups", "m (name, run_id)", {"run_id": "m.run_id"}, "onebeat_groups.name = m.name"
)


def add_group(session: Session, name: str) -> None:
    """Add a group where it is missing; behind the gate ``order``, so that nobody else does."""
    if session.row(GROUP_NAMED, (name,)) is None:
        session.run(GROUP_ADDED, (name,))


def runs_out(session: Session, names: Collection[str]) -> dict[str, str]:
    """Return the run that each of these groups has out, of those that have one."""
    return dict(session.batch(RUNS_OUT, [(name,) for name in sorted(names)]))


def held(session: Session, names: Collection[str]) -> set[str]:
    """Hold these groups, without those that somebody else holds; return which."""
    return {row[0] for row in session.free(GROUPS_HELD, sorted(names))} if names else set()


def held_open(session: Session, names: Collection[str]) -> set[str]:
    """Hold these groups, without those that somebody else holds; return which of them have no run out."""
    mine = held(session, names)
    return mine - runs_out(session, mine).keys()


def let_out(session: Session, runs: Iterable[tuple[str, str]]) -> None:
    """Write down which run each group lets out: its name and the run's id."""
    session.batch(LET_OUT, sorted(runs))


class Turns:
    """Which runs are out of the groups whose ready runs a batch of transitions would let out."""

    def __init__(self, session: Session, runs: dict[str, Run], steps: Sequence[AnyTransition]) -> None:
        named = Counter(step.run_id for step in steps)
        names = set()
        for step in steps:
            run = runs.get(step.run_id)
            if run is not None and run.exclusive is not None and isinstance(step, OPENING):
                # One that the batch names twice may be ready again by then.
                names |= {run.exclusive} if lets_out(run, step) or named[run.id] > 1 else set()
        self._session = session
        self._let: dict[str, str] = {}
        self._held = held(session, names)
        self._out = runs_out(session, self._held)

    def bars(self, run: Run, step: AnyTransition) -> bool:
        """Return whether a transition is refused because another run of the group is out, or about to be."""
        return lets_out(run, step) and (run.exclusive not in self._held or run.exclusive in self._out)

    def follow(self, before: Run, after: Run) -> None:
        """Take note of a transition that was made."""
        group = after.exclusive
        if group is None or group not in self._held:
            return
        if after.state in OUT:
            self._out[group] = self._let[group] = after.id
        elif before.state in OUT:
            self._out.pop(group, None)

    def write(self) -> None:
        """Write down which runs were let out."""
        if self._let:
            let_out(self._session, self._let.items())
