"""What the nodes of the demo serve: an ordinary app, whose schedules are those of the plan."""

import os
from datetime import UTC, datetime

from onebeat import Onebeat, call
from onebeat.demo import bodies
from onebeat.demo.nodes import START, end_with_parent
from onebeat.demo.plan import plan

end_with_parent()
beat = Onebeat(zone="UTC", owner="demo")
for each in plan(datetime.fromisoformat(os.environ.get(START, "2026-01-01T00:00:00+00:00")).astimezone(UTC)):
    beat.declare(
        each.name,
        each.trigger,
        call(getattr(bodies, each.body), **each.arguments),
        **each.policy,
        tags=["demo"],
    )
