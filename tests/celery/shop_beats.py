"""A Celery app whose beat is onebeat's, as `celery -A` finds it; the environment says what differs."""

from __future__ import annotations

import json
import os

from celery import Celery

app = Celery("shop", broker=os.environ["SHOP_BROKER"])
app.conf.update(json.loads(os.environ.get("SHOP_CONF", "{}")), result_expires=None)
app.conf.beat_schedule = {"each second": {"task": "shop.each", "schedule": float(os.environ["SHOP_PERIOD"])}}
