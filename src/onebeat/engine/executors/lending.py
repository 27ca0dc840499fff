"""A body within the transaction in which its run ends: what it writes is committed with its success, or not.

    lend ──► body ──► mine? ──► finish ──► committed: reported, and nothing is left to write
      │        │        │         │ refused: rolled back; the report will be refused too
      ▼        ▼        ▼         ▼ no answer: reported lost, and the ledger finds out
     lost   failed   timed out   lost

Nothing is ever reported as succeeded that was not committed. docs/design/009-one-transaction.md
"""

from collections.abc import Callable

from onebeat.core.errors import OnebeatError, StoreUnavailable
from onebeat.core.messages import Answer, Claimed, Report
from onebeat.core.model import Outcome
from onebeat.core.ports import Sharing
from onebeat.engine.attempt import ended
from onebeat.engine.current import CurrentRun

NO_LOAN = (
    "its schedule says transactional=True, and this node's ledger has no transaction to lend to a body; edit "
    "the schedule, or keep the ledger in a SQL database"
)


def in_transaction(
    sharing: Sharing | None,
    claimed: Claimed,
    current: CurrentRun,
    *,
    ran: Callable[[], Report],
    mine: Callable[[], bool],
) -> Report:
    """Return how an attempt ended whose body runs (``ran``) in the transaction that ends its run.

    ``mine`` is asked before the end is written: False says that the attempt has been reported already.
    """
    run = claimed.run

    def ending(outcome: Outcome, error: str, error_type: str = "") -> Report:
        return Report(run_id=run.id, token=run.token, outcome=outcome, error=error, error_type=error_type)

    if sharing is None:
        return ending(Outcome.FAILED, NO_LOAN, "Refused")
    try:
        with sharing.lend() as loan:
            current.lend(loan.connection)
            try:
                report = ran()
            finally:
                current.lend(None)
            if report.outcome is not Outcome.SUCCEEDED or not mine():
                return report
            finish = ended(claimed.definition.policy, run, report, at=sharing.now(), actor=run.holder or "")
            answer = loan.finish(finish)
            if answer.answer is Answer.ACCEPTED:
                return Report(run_id=run.id, token=run.token, outcome=Outcome.SUCCEEDED, committed=finish)
            if answer.cancel_requested:
                return ending(Outcome.CANCELLED, "cancelled on request; its transaction was rolled back")
            return ending(Outcome.LOST, "its transaction was rolled back: another attempt has the run by now")
    except StoreUnavailable as error:
        return ending(Outcome.LOST, f"its transaction was not committed, as far as is known: {error}")
    except OnebeatError as error:
        return ending(Outcome.FAILED, str(error), type(error).__name__)
