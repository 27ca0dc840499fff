"""A fleet of Celery as the engine, beside Celery by itself: `python -m bench celery --store postgres`.

The ledger is the one of ``--store``; the broker is a Redis of the run's own, as it is shipped but for its
snapshots, and a RabbitMQ where messages are handed over. Beats and workers are processes, started by Celery's
own command. Each part is a module here, and can be named alone: `celery.handover`, for one.
"""

PARTS = ("handover", "beats", "guard", "lateness", "ends")
