"""The app of the deployment: put yours in its place."""

from onebeat import CurrentRun, Onebeat

beat = Onebeat(zone="UTC")


@beat.scheduled("*/10 * * * * *", overlap="skip", tags=["heartbeat"])
def heartbeat(run: CurrentRun) -> str:
    """Show that somebody is there."""
    run.log.info("beat for %s, attempt %d", run.occurrence.isoformat(), run.attempt)
    return run.id
