"""From a world that breaks to a smaller one that breaks in the same way.

Nothing clever: leave out kinds of trouble, kinds of edits, nodes and schedules, first all of a sort, then
halves of what could not go, and end the safety phase sooner; keep whatever breaks in the same way; begin
again until nothing more can go, or patience is at its end.
"""

from collections.abc import Callable, Iterator, Sequence

from onebeat.testing.sim_draw import ACTS, FLEET, GROUPED, KINDS, NAMES, Plan
from onebeat.testing.sim_summary import Survived

INDISPENSABLE = frozenset({"dispatcher0", "worker0", "outbox0", "fleet0"})
"""Without them nothing is settled, or a target has no worker: that would break, too, and mean nothing."""


class OutOfTries(Exception):
    """As many worlds were tried as were allowed."""


class Shrinking:
    """The search. ``smallest`` is the smallest world found that breaks as the first one did."""

    def __init__(
        self, first: Survived, live: Callable[[Plan], Survived], tries: int, told: Callable[[int, int], None]
    ) -> None:
        self.smallest = first
        self.tried = 0
        self._live = live
        self._tries = tries
        self._told = told

    def search(self) -> Survived:
        """Try until nothing more can go; return the smallest world."""
        try:
            before = None
            while before != self.smallest.plan:
                before = self.smallest.plan
                self._end_sooner()
                for sort in self._sorts():
                    self._leave_out(sort)
        except OutOfTries:
            pass
        self._told(self._tries, self._tries)
        return self.smallest

    def _sorts(self) -> Iterator[Sequence[str]]:
        """Yield what may be left out, sort by sort; of faults and nodes, those that are in the world."""
        yield [kind for kind in KINDS if self.smallest.faults[kind] and kind != "edit conflict"]
        yield [name for name in self.smallest.nodes if name not in INDISPENSABLE | self.smallest.plan.without]
        for names in (ACTS, NAMES, ("overtaking",), (FLEET,), (GROUPED,)):
            yield [name for name in names if name not in self.smallest.plan.without]

    def _leave_out(self, names: Sequence[str]) -> None:
        """Leave out all of them, or as many as can go."""
        plan = self.smallest.plan
        if not names or self._holds(plan._replace(without=plan.without | set(names))):
            return
        if len(names) > 1:
            middle = len(names) // 2
            self._leave_out(names[:middle])
            self._leave_out(names[middle:])

    def _end_sooner(self) -> None:
        """End the safety phase where it broke, or find how much of it is needed for what breaks later."""
        broke = int(self.smallest.broke_at_s) + 1.0
        most = self.smallest.until_s
        if broke <= most:
            if broke < most:
                self._holds(self.smallest.plan._replace(until=broke))
            return
        least = 0.0
        while most - least > 1:
            middle = float(int((least + most) / 2))
            if self._holds(self.smallest.plan._replace(until=middle)):
                most = middle
            else:
                least = middle

    def _holds(self, plan: Plan) -> bool:
        """Return whether a world breaks in the same way; if so, it is the smallest so far."""
        if self.tried >= self._tries:
            raise OutOfTries
        self.tried += 1
        self._told(self.tried, self._tries)
        lived = self._live(plan)
        if lived.way != self.smallest.way:
            return False
        self.smallest = lived
        return True
