"""References to what only a node knows: filled in for one attempt, and kept out of what it leaves."""

from collections.abc import Mapping

from onebeat.core.errors import InvalidInput
from onebeat.core.targets import REFERENCE

MASKED_CHARS_MIN = 6
"""A shorter value is no secret, and would be found in every text."""


class References:
    """The references of one attempt, in the environment of its node."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._used: dict[str, str] = {}

    def fill(self, value: str, what: str) -> str:
        """Return a value whose last word is ``env:NAME`` with what that stands for; others as they are.

        Raises InvalidInput where there is no such variable; ``what`` says whose value it is.
        """
        before, space, last = value.rpartition(" ")
        found = REFERENCE.fullmatch(last)
        if found is None:
            return value
        if found[1] not in self._environ:
            raise InvalidInput(
                f"{what} is {last}, and this node has no variable {found[1]}; set it where the node starts"
            )
        secret = self._environ[found[1]]
        if len(secret) >= MASKED_CHARS_MIN:
            self._used[secret] = last
        return before + space + secret

    def mask(self, text: str) -> str:
        """Return a text with each value that was filled in put back to its reference, where it is whole."""
        for secret, reference in self._used.items():
            text = text.replace(secret, reference)
        return text
