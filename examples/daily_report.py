"""Declare and serve. Start this file on as many terminals as you like: each report is made once."""

from onebeat import CurrentRun, Onebeat, minutes

beat = Onebeat(zone="Europe/Berlin")


@beat.scheduled("0 9 * * MON-FRI", grace=minutes(10), tags=["reports"])
def daily_report(run: CurrentRun) -> str:
    """Report on the time since the last occurrence, however long ago that was."""
    run.log.info("reporting from %s to %s", run.previous_at, run.occurrence)
    return f"report of {run.occurrence:%Y-%m-%d}"


if __name__ == "__main__":
    beat.serve()
