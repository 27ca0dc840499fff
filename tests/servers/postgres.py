"""A PostgreSQL for the tests, in a temporary folder; what makes it outlive a crash is switched off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.servers import binaries
from tests.servers.running import Place

FOLDERS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/local/pgsql/bin", "opt/homebrew/bin")
QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "400",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "autovacuum_naptime": "10s",
    "log_min_messages": "warning",
}


def command(place: Path, settings: Mapping[str, str] = QUICK) -> tuple[list[str], str]:
    """Make a database in a place; return what starts its server, and its URL."""
    here = Place(place)
    initdb = binaries.found("initdb", FOLDERS)
    if initdb is None:
        (initdb,) = binaries.unpacked("postgresql", place.parent).glob("usr/lib/postgresql/*/bin/initdb")
    data = place / "data"
    how = ("-U", "onebeat", "-A", "trust", "-N", "-E", "UTF8", "--no-locale", "--no-instructions")
    here.run([str(initdb), "-D", str(data), *how])
    port = here.free_port()
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    told = ["-D", str(data), "-p", str(port), "-k", str(place), "-c", "listen_addresses=127.0.0.1"]
    started = [str(initdb.with_name("postgres")), *told, *options]
    return started, f"postgresql://onebeat@127.0.0.1:{port}/postgres"


def answers(url: str) -> bool:
    """Return whether the server lets us in."""
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def forget(url: str, names: list[str]) -> None:
    """Remove the schemas that the tests made."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        for name in names:
            db.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE'.encode())
