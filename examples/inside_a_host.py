"""A node inside a program that has a main loop of its own, such as a web server: start it, go on, end it."""

from threading import Event

from onebeat import CurrentRun, Onebeat, interval

beat = Onebeat(zone="UTC")
done = Event()


@beat.scheduled(interval(seconds=1))
def refresh_cache(run: CurrentRun) -> None:
    """Refresh something that lives in this very process."""
    print(f"refreshed for {run.occurrence.isoformat()}")
    done.set()


def main() -> None:
    """Serve on threads beside the host's own work."""
    node = beat.service(threads=2)
    node.start()
    try:
        done.wait(30)  # the host's own work
    finally:
        node.shutdown()
        beat.close()


if __name__ == "__main__":
    main()
