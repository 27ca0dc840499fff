"""From what people have in their hands to the connection of its driver."""

from typing import Any, NoReturn

from onebeat.core.errors import InvalidInput

RUN_SYNC = "await it.run_sync(lambda sync: beat.using(sync).runs.request(…))"


def of_the_driver(connection: object) -> Any:
    """Return the driver's connection of SQLAlchemy's Connection or Session, begun; any other as it is.

    Raises InvalidInput for its asynchronous ones, where nothing here could wait.
    """
    if not any(kind.__module__.partition(".")[0] == "sqlalchemy" for kind in type(connection).__mro__):
        return connection
    if hasattr(connection, "sync_connection") or hasattr(connection, "sync_session"):
        refuse(connection, f"is asynchronous; {RUN_SYNC}")
    known: Any = connection
    if hasattr(known, "get_bind"):  # a Session: its connection in the transaction that it has, or begins
        known = known.connection()
    # What is not begun by SQLAlchemy would not be committed by it.
    known.exec_driver_sql("SELECT 1")
    return known.connection.dbapi_connection


def refuse(connection: object, why: str) -> NoReturn:
    """Raise InvalidInput for a connection."""
    kind = type(connection)
    raise InvalidInput(f"{kind.__module__}.{kind.__qualname__} {why}")


def refuse_autocommit(connection: object) -> NoReturn:
    """Raise InvalidInput for a connection on which every statement is a transaction of its own."""
    refuse(
        connection,
        "is in autocommit, where every statement is a transaction of its own; begin one, and call this there",
    )


def refuse_isolation(connection: object, level: object) -> NoReturn:
    """Raise InvalidInput for a transaction that looks at an old picture."""
    refuse(
        connection,
        f"has a transaction at {level}, where a comparison sees what was there when it began and not what is "
        "there now; begin it at READ COMMITTED",
    )
