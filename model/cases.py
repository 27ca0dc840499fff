"""What is searched: the models within their bounds, and each of them broken on purpose in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Case(NamedTuple):
    """A model within bounds, in which every claim has to hold."""

    name: str
    model: str
    about: str
    settings: Mapping[str, int | str]
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
    settings: Mapping[str, int | str]
    claim: str = ""

    @property
    def defines(self) -> dict[str, int | str]:
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

RUNNING = (
    Case(
        "queue-all",
        "overlap",
        "two occurrences and a request; a dispatcher dies, a lease lapses, an attempt fails",
        {"RETRIES": 1, "CRASHES": 1},
    ),
    Case(
        "queue-one",
        "overlap",
        "the same policy for one that waits; somebody cancels",
        {"POLICY": "queue_one", "CANCELS": 1},
    ),
    Case(
        "cancel-running",
        "overlap",
        "newer runs replace older ones; a lease lapses, an attempt fails",
        {"POLICY": "cancel_running", "RETRIES": 1},
    ),
    Case(
        "skip",
        "overlap",
        "what meets a run is skipped; a lease lapses, replies are lost",
        {"POLICY": "skipped", "LOST_REPLIES": 1},
    ),
    Case(
        "at-most-once",
        "overlap",
        "on_lost is fail; two leases lapse, a dispatcher dies",
        {"AT_MOST_ONCE": 1, "REQUESTS": 0, "LAPSES": 2, "CRASHES": 1},
    ),
    Case(
        "slots",
        "overlap",
        "three occurrences and a request, two slots",
        {"LIMIT": 2, "OCCURRENCES": 3, "LAPSES": 0},
    ),
    Case(
        "statements", "overlap", "statement by statement: two occurrences and a request, a lapse", {"FINE": 1}
    ),
    Case(
        "limit-changes",
        "overlap",
        "statement by statement: the limit is put, taken away or widened, a lapse",
        {"FINE": 1, "LIMIT": 0, "EDITS": 1, "REQUESTS": 0},
    ),
    Case(
        "all-ends",
        "overlap",
        "two occurrences, a lapse, a failure: every run ends",
        {"REQUESTS": 0, "RETRIES": 1, "LIVENESS": 1},
        claim="Finished",
    ),
    Case(
        "statements-long",
        "overlap",
        "statement by statement: two occurrences, a lapse, a failure, a cancel, lost replies",
        {"FINE": 1, "REQUESTS": 0, "CANCELS": 1, "RETRIES": 1, "LOST_REPLIES": 1},
        long=True,
    ),
)

SENDING = (
    Case("outbox", "outbox", "a loss, a copy, a crash, a failure, a guard without a store", {"OUTAGES": 1}),
    Case(
        "outbox-ends", "outbox", "a loss, a copy, a crash, a failure: it ends", {"LIVENESS": 1}, claim="Ends"
    ),
)

LIMITED = {"FINE": 1, "LIMIT": 0, "EDITS": 1, "REQUESTS": 0}
BROKEN_RUNNING = (
    Break("settle-no-cas", "overlap", "a settlement compares versions", "NoDoubleFire", {"REQUESTS": 0}),
    Break("request-no-bump", "overlap", "a request bumps the version", "OverlapKept", {"POLICY": "skipped"}),
    Break("request-no-admission", "overlap", "a request is admitted by the policy", "OverlapKept", {}),
    Break("settle-no-promote", "overlap", "a settlement that queued lets in who may come", "NoStranded", {}),
    Break("finish-no-promote", "overlap", "an end lets in who waits", "NoStranded", {}),
    Break(
        "look-before-lock",
        "overlap",
        "an end locks the schedule, and looks after that",
        "NoStranded",
        {"FINE": 1, "REQUESTS": 0},
    ),
    Break(
        "put-no-promote",
        "overlap",
        "an edit that widens the limit lets in who waits",
        "NoStranded",
        {"EDITS": 1},
    ),
    Break(
        "limit-locks-no-runs",
        "overlap",
        "an edit that puts a limit waits for ends under way",
        "NoStranded",
        LIMITED,
    ),
    Break(
        "finish-locks-not-late", "overlap", "an end that finds a new limit locks late", "NoStranded", LIMITED
    ),
    Break(
        "fold-unseen",
        "overlap",
        "what is folded into a run finds it waiting, or loses",
        "NoGap",
        {"POLICY": "queue_one", "CANCELS": 1},
    ),
    Break("finish-no-token", "overlap", "an outcome needs the current token", "OneOutcome", {"REQUESTS": 0}),
    Break(
        "yes-or-no",
        "overlap",
        "an outcome sent again is repeated, not refused",
        "AnswerTrue",
        {"LOST_REPLIES": 1},
    ),
    Break("lost-no-lease-test", "overlap", "only a lapsed lease is taken", "LeaseKept", {"REQUESTS": 0}),
    Break(
        "start-mark",
        "overlap",
        "a start is written before the body begins",
        "AtMostOnce",
        {"AT_MOST_ONCE": 1, "REQUESTS": 0},
    ),
    Break(
        "lost-of-old",
        "overlap",
        "a verdict on what had not started is void once it has",
        "AtMostOnce",
        {"AT_MOST_ONCE": 1, "REQUESTS": 0, "LAPSES": 2},
    ),
    Break("cancel-forgotten", "overlap", "a cancel outlives its holder", "CancelKept", {"CANCELS": 1}),
    Break(
        "cancel-only-running",
        "overlap",
        "a replacement cancels what is ready too",
        "CancelKept",
        {"POLICY": "cancel_running"},
    ),
    Break(
        "nobody-takes-over",
        "overlap",
        "lost attempts are looked for",
        "Finished",
        {"REQUESTS": 0, "LIVENESS": 1},
        claim="Finished",
    ),
)

BROKEN_SENDING = (
    Break("no-resend", "outbox", "what got no answer is sent again", "NoGap", {}),
    Break(
        "guard-only-sent", "outbox", "the guard claims from ready, too", "Ends", {"LIVENESS": 1}, claim="Ends"
    ),
    Break("no-attempt", "outbox", "a message carries its attempt", "BackoffKept", {}),
    Break("mark-blind", "outbox", "a claim that sends compares", "LeaseKept", {}),
    Break("guard-no-cas", "outbox", "the guard claims by comparing", "OneOutcome", {}),
)

CASES = SETTLING + RUNNING + SENDING
BREAKS = BROKEN_SETTLING + BROKEN_RUNNING + BROKEN_SENDING
