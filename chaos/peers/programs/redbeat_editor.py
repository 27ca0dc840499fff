"""Edits a redbeat entry for each line of its input, as its documentation says: load, change, save."""

import sys

from celery_app import app
from redbeat import RedBeatSchedulerEntry

for number, line in enumerate(sys.stdin):
    entry = RedBeatSchedulerEntry.from_key(f"redbeat:{line.strip()}", app=app)
    entry.options = {"headers": {"edited": number}}
    entry.save()
