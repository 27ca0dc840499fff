"""The judge: what ought to have happened, what the ledger says, and what the bodies left outside.

Three witnesses who share no code. *Missed* is an occurrence that no settled interval covers, or a finished
run without its effect. *Doubled* is an occurrence settled or fired twice, or an effect repeated without an
attempt that was lost or failed to explain it. An effect that such an attempt explains is counted and named
apart: the promise is about settling; how often a body runs when its node dies is what ``on_lost`` says.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from onebeat.demo.expect import SECOND, At, Stretch, all_instants, instant
from onebeat.demo.outside import Line
from onebeat.demo.picture import Change, Deed, Ending, Held, Picture, Run, Tile

UNCHANGED = {"schedule.skip_next"}
FINISHED = {"succeeded", "failed", "cancelled", "timed_out", "expired", "handed_over"}


@dataclass
class Verdict:
    """The numbers of the table, and one line for each thing that is wrong."""

    schedules: int = 0
    expected: int = 0
    owed: int = 0
    fired: int = 0
    folded: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    requested: int = 0
    effects: int = 0
    missed_at: set[tuple[str, int]] = field(default_factory=set)
    doubled_at: set[tuple[str, int]] = field(default_factory=set)
    other: int = 0
    again_lost: int = 0
    again_failed: int = 0
    given_up: int = 0
    takeovers: int = 0
    refused: int = 0
    late: list[int] = field(default_factory=list)
    caught_up: int = 0
    began: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def missed(self) -> int:
        """Return how many occurrences were missed, however many witnesses say so."""
        return len(self.missed_at)

    @property
    def doubled(self) -> int:
        """Return how many occurrences were doubled, however many witnesses say so."""
        return len(self.doubled_at)

    @property
    def ok(self) -> bool:
        """Whether nothing was missed or doubled, and nothing else was wrong."""
        return not self.problems

    def miss(self, schedule: str, at: int, what: str) -> None:
        """Take note of an occurrence that was missed."""
        self.missed_at.add((schedule, at))
        self.problems.append(f"missed: {schedule}: {what}")

    def double(self, schedule: str, at: int, what: str) -> None:
        """Take note of an occurrence that was doubled."""
        self.doubled_at.add((schedule, at))
        self.problems.append(f"doubled: {schedule}: {what}")

    def wrong(self, schedule: str, what: str) -> None:
        """Take note of anything else that is wrong."""
        self.other += 1
        self.problems.append(f"wrong: {schedule}: {what}")


@dataclass(frozen=True)
class Case:
    """All that is to be judged."""

    picture: Picture
    lines: Sequence[Line]
    deeds: Sequence[Deed]
    policies: dict[str, dict[str, Any]]
    closed: int
    """Nothing that was due later is expected."""
    tolerance: int = SECOND
    """What was due in the last instants before ``closed`` may still be owed: kept, and not missed."""
    held: Sequence[Held] = ()


def judge(case: Case) -> Verdict:
    """Compare the three witnesses."""
    verdict = Verdict()
    lives = _lives(case, verdict)
    verdict.schedules = len(lives)
    tiles = _by_schedule(case.picture.tiles)
    for schedule in sorted(lives.keys() | tiles.keys()):
        _settled(case, schedule, lives.get(schedule, []), tiles.get(schedule, []), verdict)
    _runs(case, verdict)
    _effects(case, verdict)
    _crowded(case, verdict)
    _lateness(case, verdict)
    verdict.refused = case.picture.refused
    verdict.takeovers = sum(ending.outcome == "lost" for ending in case.picture.endings)
    return verdict


def excuses(policy: dict[str, Any]) -> set[str]:
    """Return the reasons for which an occurrence under ``policy`` may be settled without a run of its own.

    This is the documentation of catch-up and overlap, read once more; beside these, a pause and skip-next.
    """
    by_catch_up = {"all": set[str](), "latest": {"folded"}, "earliest": {"folded"}, "skip": {"catch_up"}}
    by_overlap = {
        "skip": {"overlap"},
        "queue_one": {"folded"},
        "queue_all": set[str](),
        "cancel_running": {"replaced"},
        "allow": set[str](),
    }
    allowed = by_catch_up[policy.get("catch_up", "latest")] | by_overlap[policy.get("overlap", "skip")]
    return allowed | ({"misfire"} if "grace" in policy else set())


# --- what ought to be there -------------------------------------------------------------------------


def _lives(case: Case, verdict: Verdict) -> dict[str, list[Stretch]]:
    """Return each schedule's stretches: the definitions are the demo's own, the cuts are the trail's.

    A cut must lie between the demo's two looks at the clock, and the trail must hold the demo's deeds, all of
    them and no others: an edit that nobody made is as wrong as one that was acknowledged and is gone.
    """
    trail: dict[str, list[Change]] = defaultdict(list)
    for change in sorted(case.picture.changes, key=lambda change: change.version):
        trail[change.schedule].append(change)
    deeds: dict[str, list[Deed]] = defaultdict(list)
    for deed in case.deeds:
        deeds[deed.schedule].append(deed)
    lives: dict[str, list[Stretch]] = {}
    for schedule in sorted(deeds.keys() | trail.keys()):
        done, kept = deeds[schedule], trail[schedule]
        if [deed.action for deed in done] != [change.action for change in kept]:
            was = ", ".join(change.action for change in kept) or "nothing"
            ought = ", ".join(deed.action for deed in done) or "nothing"
            verdict.wrong(schedule, f"the trail holds {was}; what was done is {ought}")
            continue
        for deed, change in zip(done, kept, strict=True):
            if not deed.since <= change.cut <= deed.until:
                verdict.wrong(schedule, f"the cut of {deed.action} is {_text(change.cut)}, not then")
        lives[schedule] = _stretches(done, kept, case.closed)
    return lives


def _stretches(deeds: Sequence[Deed], changes: Sequence[Change], closed: int) -> list[Stretch]:
    stretches: list[Stretch] = []
    current = None
    paused = False
    cuts = [*(change.cut for change in changes[1:]), max(closed, changes[-1].cut)]
    for deed, change, until in zip(deeds, changes, cuts, strict=True):
        after = change.cut
        match deed.action:
            case "schedule.deleted":
                current = None
            case "schedule.paused":
                paused = True
            case "schedule.resumed":
                paused = False
            case "schedule.created":
                current, paused = deed.expectation, False
                if isinstance(current, At):  # passed before it was declared: it fires all the same, at once
                    after = min(after, current.instant - 1)
            case _:
                current = deed.expectation or current
        if current is not None:
            stretches.append(Stretch(after, until, current, paused))
    return stretches


# --- the ledger -------------------------------------------------------------------------------------


def _settled(
    case: Case, schedule: str, life: Sequence[Stretch], tiles: Sequence[Tile], verdict: Verdict
) -> None:
    expected = all_instants(life)
    verdict.expected += sum(1 for each in expected if each <= case.closed)
    skip_next = sum(deed.schedule == schedule and deed.action in UNCHANGED for deed in case.deeds)
    covers: dict[int, list[Tile]] = defaultdict(list)
    for tile in tiles:
        # The last stretch is open: what was settled after the end of the count must be real all the same.
        inside = [each for stretch in life for each in _within(stretch, tile, case.closed)]
        for each in inside:
            covers[each].append(tile)
        if len(inside) != tile.count:
            note = verdict.double if tile.count > len(inside) else verdict.miss
            note(schedule, tile.after, f"{_span(tile)} is said to hold {tile.count}, and has {len(inside)}")
        if tile.fired:
            verdict.fired += 1
            if tile.occurrence not in inside:
                verdict.double(schedule, tile.after, f"{tile.run} fired, and nobody expected it")
        if tile.fired or tile.reason == "folded":
            verdict.folded += tile.count - (1 if tile.fired else 0)
        elif tile.count:
            verdict.skipped[tile.reason] += tile.count
    for each, stretch in expected.items():
        _covered(case, schedule, each, stretch, covers.get(each, []), verdict)
    skipped = sum(tile.count for tile in tiles if tile.reason == "skip_next")
    if skipped != skip_next:
        verdict.wrong(schedule, f"{skip_next} skipped by hand, and {skipped} recorded")


def _within(stretch: Stretch, tile: Tile, closed: int) -> list[int]:
    after = max(stretch.after, tile.before)
    until = tile.after if stretch.until >= closed else min(stretch.until, tile.after)
    return stretch.expectation.between(after, until)


def _covered(
    case: Case, schedule: str, each: int, stretch: Stretch, tiles: Sequence[Tile], verdict: Verdict
) -> None:
    if not tiles:
        if each > case.closed - case.tolerance and each > case.picture.marks.get(schedule, 0):
            verdict.owed += 1
        else:
            verdict.miss(schedule, each, f"{_text(each)} is in no settled interval")
        return
    if len(tiles) > 1:
        spans = " and ".join(_span(tile) for tile in tiles)
        verdict.double(schedule, each, f"{_text(each)} was settled {len(tiles)} times: {spans}")
    allowed = {"paused"} if stretch.paused else excuses(case.policies.get(schedule, {})) | {"skip_next"}
    for tile in tiles:
        alone = tile.fired and tile.occurrence == each
        reason = "folded" if tile.fired else tile.reason
        if (stretch.paused and tile.fired) or (not alone and reason not in allowed):
            verdict.wrong(schedule, f"{_text(each)} was settled as {reason}, against its policy")


def _runs(case: Case, verdict: Verdict) -> None:
    fires = Counter((run.schedule, _about(run)) for run in case.picture.runs if not run.requested)
    for (schedule, occurrence), times in sorted(fires.items()):
        if times > 1:
            verdict.double(schedule, occurrence, f"{_text(occurrence)} has {times} runs")
    endings = _endings(case.picture.endings)
    for run in case.picture.runs:
        verdict.requested += run.requested
        policy = case.policies.get(run.schedule, {})
        if run.state not in FINISHED:
            verdict.wrong(run.schedule, f"{run.id} was left {run.state}")
        elif run.state == "succeeded" or (
            run.state == "cancelled" and policy.get("overlap") == "cancel_running"
        ):
            continue
        elif policy.get("on_lost") == "fail" and any(
            ending.outcome == "lost" for ending in endings[run.id].values()
        ):
            verdict.given_up += 1
        else:
            verdict.wrong(run.schedule, f"{run.id} ended {run.state}: {run.reason}")


# --- the outside file -------------------------------------------------------------------------------


def _effects(case: Case, verdict: Verdict) -> None:
    runs = {run.id: run for run in case.picture.runs}
    endings = _endings(case.picture.endings)
    begun: dict[str, list[Line]] = defaultdict(list)
    seen: dict[tuple[str, int], set[str]] = defaultdict(set)
    for line in case.lines:
        if line.what == "begin":
            begun[line.run].append(line)
            if line.run not in runs or not runs[line.run].requested:
                seen[line.schedule, line.occurrence].add(line.run)
    verdict.effects = sum(len(lines) for lines in begun.values())
    for (schedule, occurrence), ids in sorted(seen.items()):
        if len(ids) > 1:
            names = " and as ".join(sorted(ids))
            verdict.double(schedule, occurrence, f"{_text(occurrence)} had an effect as {names}")
    for identity, lines in sorted(begun.items()):
        run = runs.get(identity)
        if run is None:
            line = lines[0]
            verdict.miss(
                line.schedule, line.occurrence, f"{identity} had an effect; the ledger has no such run"
            )
        else:
            _attempts(run, lines, endings[identity], verdict)
            once = case.policies.get(run.schedule, {}).get("on_lost") == "fail"
            if once and len(lines) > 1:
                verdict.double(
                    run.schedule, _about(run), f'{run.id} began again after a loss, with on_lost="fail"'
                )
    for run in case.picture.runs:
        ran = {(line.attempt, line.token) for line in begun.get(run.id, [])}
        twin = (run.schedule, _about(run)) in verdict.doubled_at  # whose is the effect? it was told already
        if run.state == "succeeded" and (run.attempt, run.token) not in ran and not twin:
            verdict.miss(run.schedule, _about(run), f"{run.id} succeeded, and left nothing outside")


def _attempts(run: Run, lines: Sequence[Line], endings: dict[int, Ending], verdict: Verdict) -> None:
    """Hold each effect of a run against the attempts that the ledger knows."""
    lost = failed = False
    about = _about(run)
    for attempt, times in Counter(line.attempt for line in lines).items():
        ending = endings.get(attempt)
        if times > 1:
            verdict.double(run.schedule, about, f"attempt {attempt} of {run.id} began {times} times")
        if attempt > run.attempt or (attempt < run.attempt and ending is None):
            verdict.double(run.schedule, about, f"{run.id} began an attempt {attempt} that nothing explains")
        if attempt < run.attempt and ending is not None:
            lost = lost or ending.outcome == "lost"
            failed = failed or ending.outcome != "lost"
    verdict.again_lost += lost and len(lines) > 1
    verdict.again_failed += failed and not lost and len(lines) > 1


def _crowded(case: Case, verdict: Verdict) -> None:
    """Count bodies that ran at once beyond ``max_running``; a lost attempt counts until it was found lost."""
    endings = _endings(case.picture.endings)
    ended = {(line.run, line.attempt): line.at for line in case.lines if line.what != "begin"}
    moves: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in case.lines:
        if line.what == "begin":
            ends = [ended[line.run, line.attempt]] if (line.run, line.attempt) in ended else []
            if line.attempt in endings[line.run]:
                ends.append(endings[line.run][line.attempt].at)
            if ends:
                moves[line.schedule] += [(line.at, 1), (min(ends), -1)]
    for schedule, steps in sorted(moves.items()):
        policy = case.policies.get(schedule, {})
        if policy.get("overlap") == "allow":
            continue
        running = 0
        for at, step in sorted(steps):
            running += step
            if running > policy.get("max_running", 1):
                verdict.wrong(schedule, f"{running} bodies ran at once at {_text(at)}")


# --- lateness ---------------------------------------------------------------------------------------


def _lateness(case: Case, verdict: Verdict) -> None:
    runs = {run.id: run for run in case.picture.runs if not run.requested}
    created = {change.schedule: change.cut for change in reversed(case.picture.changes)}
    on_time: set[str] = set()
    for run in runs.values():
        late = run.created - run.due
        if late < 0:
            verdict.wrong(run.schedule, f"{run.id} fired {-late} µs early")
        if any(held.since - SECOND <= run.due <= held.until for held in case.held):
            verdict.caught_up += 1
        elif run.due >= created.get(run.schedule, 0):
            verdict.late.append(late)
            on_time.add(run.id)
    for line in case.lines:
        fired = runs.get(line.run)
        if line.what == "begin" and fired is not None and fired.occurrence is not None:
            if line.at < fired.occurrence:
                verdict.wrong(line.schedule, f"{line.run} began early")
            prompt = case.policies.get(line.schedule, {}).get("overlap") == "allow"
            if line.attempt == 1 and prompt and fired.id in on_time:
                verdict.began.append(line.at - fired.due)


# --- small things -----------------------------------------------------------------------------------


def percentile(values: Sequence[int], share: float) -> int:
    """Return the value that ``share`` of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


def _about(run: Run) -> int:
    """Return the occurrence that a run stands for; a request for none stands for its own instant."""
    return run.due if run.occurrence is None else run.occurrence


def _by_schedule(tiles: Iterable[Tile]) -> dict[str, list[Tile]]:
    found: dict[str, list[Tile]] = defaultdict(list)
    for tile in tiles:
        found[tile.schedule].append(tile)
    return found


def _endings(endings: Iterable[Ending]) -> dict[str, dict[int, Ending]]:
    found: dict[str, dict[int, Ending]] = defaultdict(dict)
    for ending in endings:
        found[ending.run][ending.attempt] = ending
    return found


def _span(tile: Tile) -> str:
    return f"({_text(tile.before)}, {_text(tile.after)}] by {tile.run or tile.reason or 'an edit'}"


def _text(micros: int) -> str:
    return instant(micros).strftime("%H:%M:%S.%f").rstrip("0").rstrip(".")
