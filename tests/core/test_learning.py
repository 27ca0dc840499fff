"""What msgspec has to learn is learnt while one thread imports: see ``learn_nouns``."""

from __future__ import annotations

import subprocess
import sys

import pytest

FIRST_USES = """
import sys
import onebeat.core.codec as codec
from onebeat.core import messages, model

looked_at = []
sys.setprofile(
    lambda frame, event, _: looked_at.append(event)
    if event == "call" and frame.f_code.co_name == "get_class_annotations" else None
)
homes = (model.__name__, messages.__name__)
nouns = [noun for noun in model.Noun.__subclasses__() if noun.__module__ in homes]
for noun in nouns:
    try:
        codec.from_data({}, noun)
    except codec.InvalidInput:
        pass
sys.setprofile(None)
print(len(nouns), len(looked_at))
"""

RACE = """
import importlib, sys, threading

sys.setswitchinterval(1e-6)
for _ in range(20):
    for name in [name for name in sys.modules if name.startswith("onebeat")]:
        del sys.modules[name]
    model = importlib.import_module("onebeat.core.model")
    registry = importlib.import_module("onebeat.core.triggers.registry")
    importlib.import_module("onebeat.core.triggers.cron")
    ready = threading.Barrier(8)

    def first() -> None:
        ready.wait()
        registry.build(model.TriggerSpec(kind="cron", fields={"expression": "* * * * *"}))

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_no_noun_is_looked_at_for_the_first_time_when_it_is_decoded() -> None:
    ran = subprocess.run([sys.executable, "-c", FIRST_USES], capture_output=True, text=True, check=True)

    nouns, looked_at = map(int, ran.stdout.split())
    assert nouns > 20
    assert looked_at == 0


@pytest.mark.slow
def test_threads_that_build_their_first_trigger_at_one_time_live() -> None:
    assert subprocess.run([sys.executable, "-c", RACE], check=False).returncode == 0
