"""Two other people's cron evaluators, and the known reasons why they do not always answer as ours does.

A difference is never waved through because an expression *looks* like one that is known to differ: each
class has to be proven for the case at hand. Either the oracle agrees once it is asked in its own words, or it
does what ours does under another stated policy, or it contradicts itself. What none of this explains is a
finding. The classes are told, with examples, in docs/explanation/wall-time.md.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from croniter import croniter
from croniter.croniter import CroniterBadDateError
from cronsim import CronSim

from onebeat.core.errors import InvalidTrigger
from onebeat.core.triggers import build, cron, zone, zone_names
from onebeat.core.triggers.walltime import offsets

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ANSWERS = 4  # how many successive occurrences are compared

CLASSES = {
    "cronsim": (
        "same",
        "equal-bounds",
        "sunday-step",
        "six-fields",
        "midnight-gap",
        "lost-place",
        "lost-fold",
        "stands-still",
    ),
    "croniter": ("same", "equal-bounds", "day-rule", "gap-shift", "gap-second", "fold-twice", "fold-once"),
}


@dataclass(frozen=True)
class Case:
    expression: str
    zone: str
    start: datetime

    @property
    def fields(self) -> list[str]:
        return self.expression.split()

    @property
    def wild(self) -> bool:
        return any(text.startswith("*") for text in self.fields[-5:-3])

    def ours(self, **policy: Any) -> list[datetime]:
        trigger = build(cron(self.expression, zone=self.zone, **policy))
        found, at = list[datetime](), self.start
        while len(found) < ANSWERS and (following := trigger.after(at)) is not None:
            found.append(at := following)
        return found

    def local(self, at: datetime) -> datetime:
        return at.astimezone(zone(self.zone))


# --- cases -------------------------------------------------------------------------------------------


def cases(seed: int, number: int) -> Iterator[Case]:
    """Random expressions, zones and instants; most of the instants just before a change of the clock.

    Each seed looks at a tenth of the zones: reading them all would take longer than asking.
    """
    rng = random.Random(seed)
    names = sorted(zone_names())[seed % 10 :: 10]
    while number:
        text, name = _expression(rng), rng.choice(names)
        try:
            cron(text, zone=name)
        except InvalidTrigger as error:
            if "never comes" not in str(error):
                raise
            continue
        changes = [at for at in offsets(name).since if 0 < at < 2**31]
        near = changes and rng.random() < 0.7
        second = rng.choice(changes) + rng.randint(-90_000, 7_200) if near else rng.randint(0, 2**31)
        yield Case(text, name, EPOCH + second * SECOND)
        number -= 1


def _expression(rng: random.Random) -> str:
    fields = [
        _field(rng, 0, 59, 0.2),
        _field(rng, 0, 23, 0.3),
        _field(rng, 1, 31, 0.55),
        _field(rng, 1, 12, 0.7),
        _field(rng, 0, 6, 0.6),
    ]
    if rng.random() < 0.06:
        fields[2] = rng.choice(["L", "1,L", "15,L"])
    if rng.random() < 0.06:
        fields[4] = rng.choice([f"{rng.randint(0, 6)}#{rng.randint(1, 5)}", f"{rng.randint(0, 6)}L"])
    if rng.random() < 0.08:
        fields[4] = rng.choice(["MON-FRI", "SAT,SUN", "7", "0-7", "5-7", "MON"])
    if rng.random() < 0.15:
        fields.insert(0, _field(rng, 0, 59, 0.1))
    return " ".join(fields)


def _field(rng: random.Random, low: int, high: int, star: float) -> str:
    dice = rng.random()
    if dice < star:
        return "*"
    if dice < star + 0.12:
        return f"*/{rng.randint(1, high - low + 1)}"
    return ",".join(_term(rng, low, high) for _ in range(rng.choice([1, 1, 1, 2, 3])))


def _term(rng: random.Random, low: int, high: int) -> str:
    dice, start = rng.random(), rng.randint(low, high)
    stop = rng.randint(start, high)
    if dice < 0.5:
        return str(start)
    if dice < 0.75:
        return f"{start}-{stop}"
    if dice < 0.9:
        return f"{start}-{stop}/{rng.randint(1, stop - start + 1)}"
    return f"{start}/{rng.randint(1, high - start + 1)}"


# --- asking in other words ---------------------------------------------------------------------------


def _equal_bounds(text: str) -> str:
    return re.sub(r"(?<![\d-])(\d+)-\1(?:/\d+)?(?=[, ]|$)", r"\1", text)


def _sunday_step(text: str) -> str:
    *others, weekday = text.split()
    weekday = re.sub(r"(?<![\d/*-])6/1(?=,|$)", "6", weekday)
    return " ".join([*others, re.sub(r"(?<![\d/*-])(\d)/(\d)(?=,|$)", r"\1-6/\2", weekday)])


def _readings(text: str, *rewrites: tuple[str, Callable[[str], str]]) -> Iterator[tuple[list[str], str]]:
    """Yield the text as it is, then with more and more of the rewrites that change it, and their names."""
    yield [], text
    names: list[str] = []
    for name, rewrite in rewrites:
        rewritten = rewrite(text)
        if rewritten != text:
            names, text = [*names, name], rewritten
            yield names, text


# --- cronsim -----------------------------------------------------------------------------------------


class StandsStill(Exception):
    """Cronsim went round in a circle."""


class BoundedCronSim(CronSim):
    """Cronsim, which can search one hour for ever, with an end to its patience."""

    steps = 0

    def tick(self, seconds: int = 1) -> None:
        self.steps += 1
        if self.steps > 50_000:
            raise StandsStill
        super().tick(seconds)


def ask_cronsim(case: Case, text: str, at: datetime, number: int = ANSWERS) -> list[datetime]:
    """Ask cronsim; what it does not answer is left out."""
    answers, found = BoundedCronSim(text, case.local(at)), list[datetime]()
    try:
        while len(found) < number:
            found.append(next(answers).astimezone(UTC))
    except StandsStill:
        pass
    return found


def explain_cronsim(case: Case) -> str | None:
    """Return the class of the case, or None when ours and cronsim differ for no known reason."""
    readings = list(
        _readings(case.expression, ("equal-bounds", _equal_bounds), ("sunday-step", _sunday_step))
    )
    policies: list[tuple[list[str], dict[str, Any]]] = [([], {})]
    if case.wild:
        policies.append((["midnight-gap"], {"gap": "shift"}))
    elif len(case.fields) == 6:
        policies.append((["six-fields"], {"gap": "skip", "fold": "both"}))
    for names, text in readings:
        theirs = ask_cronsim(case, text, case.start)
        for clock, policy in policies:
            if theirs == case.ours(**policy):
                return " + ".join(names + clock) or "same"
    for names, text in readings:
        for clock, policy in policies:
            mistake = _cronsim_mistake(case, text, policy)
            if mistake:
                return " + ".join([*names, *clock, mistake])
    return None


def _cronsim_mistake(case: Case, text: str, policy: dict[str, Any]) -> str | None:
    """Name what cronsim does wrong by its own lights: go back, stand still, or deny what it said before."""
    theirs = ask_cronsim(case, text, case.start)
    if len(theirs) < ANSWERS and theirs == case.ours(**policy)[: len(theirs)]:
        return "stands-still"
    ahead = [at for at in theirs if at > case.start]
    if case.local(case.start).fold and ahead != theirs and ahead == case.ours(**policy)[: len(ahead)]:
        return "lost-fold"
    if any(later <= earlier for earlier, later in pairwise(theirs)):
        return "stands-still"
    trigger = build(cron(case.expression, zone=case.zone, **policy))
    owed, at = [], case.start
    while (following := trigger.after(at)) is not None and following <= theirs[-1]:
        owed.append(at := following)
    missed = sorted(set(owed) - set(theirs))
    if set(theirs) <= set(owed) and all(_just_after_a_change(case, at) for at in missed):
        fresh = [ask_cronsim(case, text, at - SECOND, 1) for at in missed]
        return "lost-place" if fresh == [[at] for at in missed] else None
    return None


def _just_after_a_change(case: Case, at: datetime) -> bool:
    since = offsets(case.zone).since
    second = int((at - EPOCH) / SECOND)
    return second - since[bisect_right(since, second) - 1] < 2 * 86_400


# --- croniter ----------------------------------------------------------------------------------------


def ask_croniter(case: Case, text: str, **options: bool) -> list[datetime]:
    """Ask croniter, which writes the last Friday as ``L5`` and gives up when 50 years hold nothing."""
    *others, weekday = text.split()
    text = " ".join([*others, re.sub(r"\b(\d)L", r"L\1", weekday)])
    answers = croniter(text, case.local(case.start), second_at_beginning=True, **options)
    try:
        return [answers.get_next(datetime).astimezone(UTC) for _ in range(ANSWERS)]
    except CroniterBadDateError:
        return []


def _ask_croniter_by_days(case: Case, text: str) -> list[datetime]:
    """Ask croniter with the rule for its two day fields taken out of its hands."""
    *time, date, month, weekday = text.split()
    if date.startswith("*") or weekday.startswith("*"):
        return ask_croniter(case, text, day_or=False)
    by_date = ask_croniter(case, " ".join([*time, date, month, "*"]))
    by_weekday = ask_croniter(case, " ".join([*time, "*", month, weekday]))
    return sorted({*by_date, *by_weekday})[:ANSWERS]


def explain_croniter(case: Case) -> str | None:
    """Return the class of the case, or None when ours and croniter differ for no known reason."""
    policies: list[tuple[list[str], dict[str, Any]]] = [([], {})]
    if case.wild:
        policies += [(["gap-shift"], {"gap": "shift"}), (["fold-once"], {"fold": "first"})]
    else:
        policies.append((["fold-twice"], {"fold": "both"}))
    asks = [(ask_croniter, list[str]()), (_ask_croniter_by_days, ["day-rule"])]
    for ask, rule in asks:
        for names, text in _readings(case.expression, ("equal-bounds", _equal_bounds)):
            theirs = ask(case, text)
            for clock, policy in policies:
                ours = case.ours(**policy)
                if theirs == ours:
                    return " + ".join(names + rule + clock) or "same"
                moved = _moved_to_the_change(case, theirs)
                if len(case.fields) == 6 and moved == ours[: len(moved)]:
                    return " + ".join([*names, *rule, *clock, "gap-second"])
    return None


def _moved_to_the_change(case: Case, answers: list[datetime]) -> list[datetime]:
    """Return the answers, those in the first minute after a change of the clock put onto the change."""
    moved = []
    for at in answers:
        second = int((at - EPOCH) / SECOND)
        since = offsets(case.zone).since
        change = since[bisect_right(since, second) - 1]
        moved.append(EPOCH + change * SECOND if second - change < 60 else at)
    return list(dict.fromkeys(moved))
