"""Have redbeat write entries of each kind: python redbeat_rows.py URL START; say when each of them comes."""

import json
import sys
from datetime import datetime, timedelta, timezone

from ahead import fires
from celery import Celery
from celery.schedules import crontab, schedule
from dateutil.rrule import FR, MO, WE
from redbeat import RedBeatSchedulerEntry
from redbeat.schedules import rrule

url, start = sys.argv[1], datetime.fromisoformat(sys.argv[2])
app = Celery("peer", broker=url, set_as_current=True)
app.conf.update(timezone="Europe/Berlin", redbeat_redis_url=url, redbeat_key_prefix="shop-beat:")

SINGAPORE = timezone(timedelta(hours=8))
KINDS = {
    "seconds": schedule(timedelta(seconds=30), app=app),
    "Odd Minutes": schedule(timedelta(minutes=7, seconds=1), app=app),
    "full-hours": schedule(timedelta(hours=1), relative=True, app=app),
    "each-minute": crontab(app=app),
    "fives": crontab(minute="*/5", app=app),
    "nightly": crontab(minute=30, hour=3, app=app),
    "workdays": crontab(minute="30", hour="9", day_of_week="mon-fri", app=app),
    "sundays": crontab(minute=0, hour=12, day_of_week=0, app=app),
    "over-the-weekend": crontab(minute=0, hour="8-18/4", day_of_week="fri-mon", app=app),
    "friday-13": crontab(minute=13, hour=13, day_of_week="fri", day_of_month=13, app=app),
    "quarters": crontab(minute=0, hour=0, day_of_month=1, month_of_year="*/3", app=app),
    "last-days": crontab(minute=0, hour=6, day_of_month="28-31", month_of_year="1,2,dec", app=app),
    "every-other-day": rrule("DAILY", interval=2, dtstart=start - timedelta(days=9), app=app),
    "mo-we": rrule(
        "WEEKLY", byweekday=[MO, WE], byhour=[7, 19], byminute=0, bysecond=0, dtstart=start, app=app
    ),
    "last-friday": rrule(
        "MONTHLY", byweekday=FR, bysetpos=-1, byhour=17, byminute=0, bysecond=0, dtstart=start, app=app
    ),
    "ten-times": rrule("HOURLY", count=10, dtstart=start, app=app),
    "until-then": rrule("DAILY", until=start + timedelta(days=20), wkst=MO, dtstart=start, app=app),
    "in-singapore": rrule(
        "WEEKLY",
        byweekday=[MO],
        byhour=1,
        byminute=0,
        bysecond=0,
        dtstart=start.astimezone(SINGAPORE),
        app=app,
    ),
}
for name, when in KINDS.items():
    RedBeatSchedulerEntry(name, f"shop.{name}", when, last_run_at=start, app=app).save()
RedBeatSchedulerEntry(
    "told",
    "shop.told",
    schedule(timedelta(hours=1), app=app),
    args=[1, "two", {"three": None}],
    kwargs={"dry": True},
    options={"queue": "mail", "priority": 3, "expires": 60, "headers": {"a": 1}},
    last_run_at=start,
    app=app,
).save()
RedBeatSchedulerEntry(
    "off", "shop.off", crontab(minute=0, app=app), enabled=False, last_run_at=start, app=app
).save()
until = start + timedelta(days=365)
print(json.dumps({name: fires(when, start, until, 400, app.timezone) for name, when in KINDS.items()}))
