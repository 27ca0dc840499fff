"""What every test runs under."""

from __future__ import annotations

from hypothesis import settings

# No deadline for an example: how long one takes says more about the machine than about the code.
# A failure prints what repeats it. `--hypothesis-profile long` looks further, for the tests marked `long`.
settings.register_profile("onebeat", deadline=None, print_blob=True)
settings.register_profile("long", parent=settings.get_profile("onebeat"), max_examples=5000)
settings.load_profile("onebeat")
