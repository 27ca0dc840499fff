"""A long body: it says how far it is, its log lines are kept with the run, and it stops when it is told to.

It is told when its lease was lost, when somebody cancels the run (`onebeat run cancel`), past its timeout,
and when its node shuts down.
"""

from time import sleep

from onebeat import CurrentRun, Onebeat, minutes

beat = Onebeat(zone="UTC")
PARTS = 200


@beat.scheduled("0 3 * * *", overlap="cancel_running", timeout=minutes(90))
def rebuild_index(run: CurrentRun) -> dict[str, int]:
    """Rebuild an index, part by part."""
    for part in range(PARTS):
        if not run.still_mine():
            run.log.warning("stopping at part %d: %s", part, run.stop_reason)
            return {"parts": part}
        sleep(0.01)  # the work
        run.progress(part + 1, PARTS)
    run.log.info("all %d parts are done", PARTS)
    return {"parts": PARTS}


if __name__ == "__main__":
    beat.serve()
