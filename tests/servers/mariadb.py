"""A MariaDB for the tests, in a temporary folder; what makes it outlive a crash is switched off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.servers import binaries
from tests.servers.running import Place

FOLDERS = ("usr/sbin", "usr/local/mysql/bin", "opt/homebrew/bin")
TABLES = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
QUICK = {
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-doublewrite": "0",
    "innodb-buffer-pool-size": "128M",
    "innodb-log-file-size": "96M",
    "innodb-file-per-table": "0",
    "max-connections": "400",
    "table-open-cache": "4000",
}


def command(place: Path, settings: Mapping[str, str] = QUICK) -> tuple[list[str], str]:
    """Make a database in a place; return what starts its server, and its URL."""
    here = Place(place)
    server = binaries.found("mariadbd", FOLDERS)
    if server is None:
        root = binaries.unpacked("mariadb-server-core", place.parent)
        server = root / "usr/sbin/mariadbd"
        binaries.libraries_of(root)
    top = server.parents[1]
    data = place / "data"
    started = [
        str(server),
        "--no-defaults",
        f"--basedir={top}",
        f"--lc-messages-dir={top / 'share/mysql'}",
        f"--plugin-dir={top / 'lib/mysql/plugin'}",
        f"--datadir={data}",
        f"--tmpdir={place}",
        "--skip-name-resolve",
        *(f"--{name}={value}" for name, value in settings.items()),
    ]
    here.make(data)
    texts = [(top / "share/mysql" / name).read_text() for name in TABLES]
    begin = "CREATE DATABASE mysql;\nUSE mysql;\nSET @skip_auth_anonymous=1;\nSET @auth_root_socket=NULL;\n"
    here.run([*started, "--bootstrap"], text=begin + "".join(texts))
    port = here.free_port()
    listening = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={place / 'socket'}"]
    return [*started, *listening], f"mysql://root@127.0.0.1:{port}/mysql"


def answers(url: str) -> bool:
    """Return whether the server lets us in."""
    import pymysql

    try:
        connected(url).close()
    except pymysql.OperationalError:
        return False
    return True


def make(url: str, name: str) -> None:
    """Make a database."""
    with connected(url) as db, db.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")


def forget(url: str, names: list[str]) -> None:
    """Remove the databases that the tests made."""
    with connected(url) as db, db.cursor() as cursor:
        for name in names:
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")


def connected(url: str):  # type: ignore[no-untyped-def]  # the driver has no types
    from urllib.parse import unquote, urlsplit

    import pymysql

    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.removeprefix("/"),
        connect_timeout=5,
    )
