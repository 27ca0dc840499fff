"""The one suite that every store passes. See docs/reference/store-contract.md.

A store passes it by a subclass in a test file:

    class TestMine(StoreSuite):
        def opener(self, place):
            return functools.partial(open_mine, place / "ledger")

What a store cannot do is declared on the subclass (see Stage), and then a test asserts that it is absent:
nothing is skipped.
"""

from onebeat.testing.conformance_choices import ChoiceSuite
from onebeat.testing.conformance_claim import ClaimSuite
from onebeat.testing.conformance_groups import GroupSuite
from onebeat.testing.conformance_inbox import InboxSuite
from onebeat.testing.conformance_law import LawSuite
from onebeat.testing.conformance_moves import MoveSuite
from onebeat.testing.conformance_purge import PurgeSuite
from onebeat.testing.conformance_put import PutSuite
from onebeat.testing.conformance_race import RaceSuite
from onebeat.testing.conformance_read import ReadSuite
from onebeat.testing.conformance_repeat import RepeatSuite
from onebeat.testing.conformance_send import SendSuite
from onebeat.testing.conformance_settle import SettleSuite
from onebeat.testing.conformance_sharing import SharingSuite
from onebeat.testing.conformance_table import TableSuite


class StoreSuite(
    PutSuite,
    SettleSuite,
    TableSuite,
    MoveSuite,
    ClaimSuite,
    SendSuite,
    GroupSuite,
    ReadSuite,
    PurgeSuite,
    RepeatSuite,
    InboxSuite,
    LawSuite,
    ChoiceSuite,
    SharingSuite,
    RaceSuite,
):
    """Everything that the ledger and the reader promise, topic by topic."""
