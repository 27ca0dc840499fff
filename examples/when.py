"""Look ahead: triggers are plain values. Nothing is fired here, and no ledger is needed."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from onebeat import Onebeat, TriggerSpec, cron, interval

NEW_YORK = "America/New_York"
BEFORE_SPRING = datetime(2026, 3, 6, tzinfo=ZoneInfo(NEW_YORK))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def show(beat: Onebeat, what: str, trigger: TriggerSpec) -> None:
    """Print the next four occurrences."""
    print(what)
    for instant in beat.preview(trigger, 4, after=BEFORE_SPRING):
        print(f"    {instant.isoformat()}")


def main() -> None:
    """Show how triggers combine, and what they do where the clocks change."""
    beat = Onebeat(zone=NEW_YORK)
    nightly = cron("30 2 * * *")
    show(beat, "half past two, also in the night that has no half past two", nightly)
    show(beat, "the last working day of the month", cron("0 17 LW * *"))
    show(beat, "every ninety minutes, counted from a fixed instant", interval(minutes=90, anchor=NOON))
    show(beat, "nightly, but not on Sundays", nightly - cron("* * * * SUN"))
    show(beat, "at nine and at noon", cron("0 9 * * *") | cron("0 12 * * *"))


if __name__ == "__main__":
    main()
