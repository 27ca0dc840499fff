"""Who is put through the mill, in which processes, and with which settings."""

from __future__ import annotations

import sys
from typing import NamedTuple

from bench.peers.environments import pinned, python

CELERY = (sys.executable, "-m", "celery", "-A", "celery_app")
BEAT = (*CELERY, "beat", "--loglevel=INFO", "--pidfile=", "--schedule=beat-schedule")
WORKER = (*CELERY, "worker", "--loglevel=INFO", "--pool=threads", "--concurrency=4", "--without-gossip")
WORKED = (
    "worker: task_acks_late, task_reject_on_worker_lost, prefetch 1, visibility_timeout 10 s; publishing is "
    "tried up to 40 times within some 20 s; sockets give up after 5 s"
)


class Kind(NamedTuple):
    """One product in one setting.

    A role is its name, how many processes it has and what starts one; the first role is who schedules.
    ``setup`` runs once, before. ``editor`` is a program of its own; where it is empty and ``edits`` is set,
    an edit is told to a process of the first role. ``anchored`` is whether "every two seconds" means the even
    ones: where it does not, what is due follows from the firing before. The first word of a command stands
    for the interpreter of its environment.
    """

    name: str
    title: str
    lock: str
    servers: tuple[str, ...]
    roles: tuple[tuple[str, int, tuple[str, ...]], ...]
    settings: str
    setup: tuple[str, ...] = ()
    editor: tuple[str, ...] = ()
    edits: bool = True
    anchored: bool = True
    lock_key: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def interpreter(self) -> str:
        """Return the interpreter that has it."""
        return str(python(self.lock)) if self.lock else sys.executable

    def command(self, words: tuple[str, ...]) -> list[str]:
        """Return a command in its environment."""
        return [self.interpreter, *words[1:]]

    @property
    def packages(self) -> list[str]:
        """Return what it is made of, with the versions that were chosen on purpose."""
        return pinned(self.lock) if self.lock else []


def _program(name: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, f"{name}.py", *words)


ONEBEAT = "catch_up all, overlap allow, lease 3 s; a node dispatches and works"
APS = (
    "cron trigger second='*/2' and '*/5', coalesce off, misfire_grace_time None, max_instances 100, "
    "jobstore_retry_interval 1 s, blocking scheduler, connections give up after 3 s; jobs added once"
)


def _aps(name: str, title: str, server: str, count: int) -> Kind:
    return Kind(
        name=name,
        title=title,
        lock="apscheduler3",
        servers=(server,),
        roles=(("node", count, _program("aps3", "node")),),
        settings=APS,
        setup=_program("aps3", "setup"),
    )


def _onebeat(server: str, title: str) -> Kind:
    return Kind(
        name=f"onebeat-{server}",
        title=title,
        lock="",
        servers=(server,),
        roles=(("node", 2, _program("onebeat_node", "node")),),
        settings=ONEBEAT,
        setup=_program("onebeat_node", "setup"),
    )


def _beat(name: str, title: str, count: int) -> Kind:
    return Kind(
        name=name,
        title=title,
        lock="celery",
        servers=("redis",),
        roles=(("beat", count, BEAT), ("worker", 1, WORKER)),
        settings=f"beat_max_loop_interval 1 s, beat_sync_every 1, a schedule file for each beat; {WORKED}",
        edits=False,
        anchored=False,
    )


KINDS = (
    _onebeat("postgres", "onebeat ×2, PostgreSQL"),
    _onebeat("redis", "onebeat ×2, Redis"),
    _aps("apscheduler-postgres", "APScheduler 3 ×2, PostgreSQL", "postgres", 2),
    _aps("apscheduler-redis", "APScheduler 3 ×2, Redis", "redis", 2),
    _aps("apscheduler-one", "APScheduler 3 ×1, PostgreSQL", "postgres", 1),
    _beat("celery-beat", "Celery Beat ×2, Redis broker", 2),
    _beat("celery-beat-one", "Celery Beat ×1, Redis broker", 1),
    Kind(
        name="django-celery-beat",
        title="django-celery-beat ×2, PostgreSQL, Redis broker",
        lock="django",
        servers=("postgres", "redis"),
        roles=(
            ("beat", 2, (*BEAT[:-1], "--scheduler=django_celery_beat.schedulers:DatabaseScheduler")),
            ("worker", 1, WORKER),
        ),
        settings=f"beat_max_loop_interval 1 s, beat_sync_every 1, connect_timeout 3 s; {WORKED}",
        setup=_program("django_entries", "setup"),
        editor=_program("django_entries", "editor"),
        anchored=False,
        environment=(("DJANGO_SETTINGS_MODULE", "django_settings"),),
    ),
    Kind(
        name="redbeat",
        title="redbeat ×2, Redis",
        lock="redbeat",
        servers=("redis",),
        roles=(("beat", 2, (*BEAT[:-1], "--scheduler=redbeat.RedBeatScheduler")), ("worker", 1, WORKER)),
        settings=(
            "lock on, redbeat_lock_timeout 5 s, beat_max_loop_interval 1 s, redbeat_redis_options "
            f"retry_period 30 s; {WORKED}"
        ),
        editor=_program("redbeat_editor"),
        anchored=False,
        lock_key="redbeat::lock",
    ),
)
BY_NAME = {kind.name: kind for kind in KINDS}
