"""What is searched: the models within their bounds, and each of them broken on purpose in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Case(NamedTuple):
    """A model within bounds, in which every claim has to hold."""

    name: str
    model: str
    about: str
    settings: Mapping[str, int]
    claim: str = ""
    """What no execution may do, instead of the assertions."""
    long: bool = False
    """Left out of the tests."""


class Break(NamedTuple):
    """A model without one of its rules, in which this claim has to fail. Its name is that of its switch."""

    name: str
    model: str
    rule: str
    fails: str
    settings: Mapping[str, int]
    claim: str = ""

    @property
    def defines(self) -> dict[str, int]:
        """Return the settings and the switch of the break itself."""
        return {**self.settings, "BREAK_" + self.name.upper().replace("-", "_"): 1}


SETTLING = (
    Case(
        "edits",
        "settle",
        "two changes of any kind, a clock that is ahead, a reply that is lost",
        {"EDITS": 2, "CRASHES": 0},
    ),
    Case(
        "batches",
        "settle",
        "two schedules in a batch, one change, a crash, a clock that is ahead",
        {"SCHEDULES": 2, "EDITS": 1, "LOST_REPLIES": 0},
    ),
    Case(
        "clock-back",
        "settle",
        "one change, a crash, clocks ahead, the store's clock goes back, runs are purged",
        {"EDITS": 1, "SETBACKS": 1, "PURGES": 1},
    ),
    Case(
        "spread",
        "settle",
        "one change between offsets of 0, 1 and 2, a clock that is ahead",
        {"EDITS": 1, "NEW_MAX": 5, "BEGUN": 4, "CRASHES": 0},
    ),
    Case(
        "settled-in-the-end",
        "settle",
        "one change, all faults: nothing stays due for ever",
        {"EDITS": 1, "LIVENESS": 1},
        claim="Settled",
    ),
    Case("edits-long", "settle", "the same, with crashes", {"EDITS": 2}, long=True),
    Case("three-edits", "settle", "three changes", {"EDITS": 3, "SLIPS": 0, "CRASHES": 0}, long=True),
    Case(
        "spread-long",
        "settle",
        "two changes between offsets, a crash",
        {"EDITS": 2, "NEW_MAX": 5, "BEGUN": 4, "SLIPS": 0},
        long=True,
    ),
)

QUIET = {"EDITS": 0, "SLIPS": 0, "CRASHES": 0}
SPREAD = {"EDITS": 1, "NEW_MAX": 5, "BEGUN": 4}
BROKEN_SETTLING = (
    Break("cas", "settle", "a settlement compares versions", "NoDoubleFire", QUIET),
    Break(
        "losers",
        "settle",
        "a row that was lost leaves nothing of its batch",
        "NoDoubleFire",
        {**QUIET, "SCHEDULES": 2},
    ),
    Break("early", "settle", "what the store's clock has not reached is refused", "NeverEarly", {"EDITS": 0}),
    Break("edit-no-settle", "settle", "an edit settles first what is owed", "NoGap", {"EDITS": 1}),
    Break(
        "version-reused",
        "settle",
        "a name that is used again goes on with its versions",
        "NothingReused",
        {"EDITS": 3, "SLIPS": 0, "CRASHES": 0},
    ),
    Break(
        "mark-from-runs",
        "settle",
        "the mark is stored, and not found from runs",
        "NoDoubleFire",
        {"EDITS": 0, "PURGES": 1},
    ),
    Break("skip-moves-mark", "settle", "a skip is listed; it moves no mark", "EditGoverns", {"EDITS": 2}),
    Break("offset-per-occurrence", "settle", "a schedule has one offset", "NoGap", {"EDITS": 0, "BEGUN": 2}),
    Break(
        "edit-mark-cut", "settle", "an edit moves the mark to cut − offset, not to the cut", "NoGap", SPREAD
    ),
    Break("edit-mark-kept", "settle", "an edit moves the mark over empty time", "EditGoverns", {"EDITS": 1}),
    Break(
        "edit-mark-due", "settle", "an edit never moves the mark back", "NoDoubleFire", {**SPREAD, "BEGUN": 0}
    ),
    Break(
        "edit-drops-pending",
        "settle",
        "an edit to a smaller offset settles what it jumps over",
        "NoGap",
        SPREAD,
    ),
    Break("edit-id", "settle", "an edit that is sent again is known by its id", "AnswerTrue", {"EDITS": 1}),
    Break(
        "no-reread",
        "settle",
        "who lost reads again",
        "Settled",
        {"EDITS": 1, "LIVENESS": 1},
        claim="Settled",
    ),
)

CASES = SETTLING
BREAKS = BROKEN_SETTLING
