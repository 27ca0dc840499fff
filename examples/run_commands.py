"""Programs as runs: their words are read by no shell, their output and their exit status are kept."""

from onebeat import Onebeat, hours, interval, shell

beat = Onebeat(zone="UTC", shell=True)  # without it a node runs no command, whatever a schedule says

beat.declare("disk", interval(seconds=2), shell(["df", "-h", "/"]), timeout=10)

beat.declare(
    "backup",
    "0 2 * * *",
    # The ledger has the name of the variable; its value is on the node alone.
    shell(["pg_dump", "--file", "/backup/shop.sql", "shop"], env={"PGPASSWORD": "env:SHOP_PASSWORD"}),
    timeout=hours(1),
)

# Who wants a shell says so. What comes in belongs into variables or the input, and not into its text.
beat.declare(
    "newest",
    interval(seconds=2),
    shell(["/bin/sh", "-c", 'echo "for $ONEBEAT_OCCURRENCE:"; ls -t | head -1'], cwd="/tmp"),
    attempts=3,
    retry_on=["exit 75"],  # EX_TEMPFAIL: the one status after which this is tried again
)


if __name__ == "__main__":
    beat.serve()
