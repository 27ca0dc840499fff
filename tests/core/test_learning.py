"""What msgspec has to learn is learnt while one thread imports: see ``learn_nouns``."""

from __future__ import annotations

import subprocess
import sys

FIRST_USES = """
import sys
import onebeat.core.codec as codec
from onebeat.core import messages, model
from onebeat.core.triggers import registry

LOOKS, looked_at = "get_class_annotations", []

def watch(frame, event, _):
    # What msgspec.structs.fields() asks for is in Python alone, and harms nobody.
    if event == "call" and frame.f_code.co_name == LOOKS and frame.f_back.f_code.co_name != "fields":
        looked_at.append(frame.f_back.f_code.co_name)

sys.setprofile(watch)
homes = (model.__name__, messages.__name__)
nouns = [noun for noun in model.Noun.__subclasses__() if noun.__module__ in homes]
for noun in nouns:
    try:
        codec.from_data({}, noun)
    except codec.InvalidInput:
        pass
registry.build(model.TriggerSpec(kind="cron", fields={"expression": "* * * * *"}))
sys.setprofile(None)
print(len(nouns), len(looked_at))
"""


def test_nothing_is_looked_at_for_the_first_time_when_it_is_decoded() -> None:
    ran = subprocess.run([sys.executable, "-c", FIRST_USES], capture_output=True, text=True, check=True)

    nouns, looked_at = map(int, ran.stdout.split())
    assert nouns > 20
    assert looked_at == 0
