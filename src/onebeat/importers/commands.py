"""What a line of a crontab runs: a command and what it reads; and the name of its program. Pure.

The percent rule is cron's own, character by character: the first % without a backslash ends the command, what
follows is its input with each further % as a new line, and a backslash makes a percent sign one. Backslashes
before anything else stay.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

NAME_CHARS_MAX = 60


class Said(NamedTuple):
    """A command as its shell gets it, and its input; None where nothing is piped to it."""

    command: str
    input: str | None


def said(text: str) -> Said:
    """Return what cron makes of the text behind the time (and the user)."""
    command, escaped = list[str](), False
    for place, sign in enumerate(text):
        if escaped and sign == "%":
            command[-1] = "%"
        elif sign == "%":
            return Said(_trimmed("".join(command)), _input(text[place + 1 :]) or None)
        else:
            command.append(sign)
        escaped = sign == "\\" and not escaped
    return Said(_trimmed("".join(command)), None)


def _input(text: str) -> str:
    read, escaped = list[str](), False
    for sign in text:
        if escaped:
            if sign != "%":
                read.append("\\")
        elif sign == "%":
            sign = "\n"  # noqa: PLW2901 - as cron does it: from here on it is a new line
        escaped = sign == "\\"
        if not escaped:
            read.append(sign)
    if escaped:
        read.append("\\")
    return "".join(read) if not read or read[-1] == "\n" else "".join(read) + "\n"


def _trimmed(command: str) -> str:
    """Return a command without the blanks at its end, unless one of them is quoted."""
    bare = command.rstrip(" \t")
    return bare if not bare.endswith("\\") or bare == command else bare + command[len(bare)]


# --- what it is called ------------------------------------------------------------------------------------

_SEPARATORS = re.compile(r"&&|\|\||[;|\n]|(?<![>&])&(?![>&\d])")
_OPENERS = {"(", "{", "!", "if", "then", "do", "else", "while", "until"}
_PREPARING = {
    *("cd", "test", "[", "[[", "sleep", "export", "source", ".", "set", "umask", "ulimit", ":", "true"),
    *("false", "pushd", "mkdir", "exit", "fi", "done", "for", "trap", "wait", "read"),
}
"""Programs that only prepare for the one that a line is about."""

_WRAPPERS = {
    "flock": ("wE", 1),
    "nice": ("n", 0),
    "ionice": ("cnp", 0),
    "timeout": ("ks", 1),
    "sudo": ("ugphCTrt", 0),
    "su": ("sg", 1),
    "runuser": ("ugs", 0),
    "env": ("uCS", 0),
    "systemd-cat": ("tp", 0),
    "setlock": ("", 1),
    "chpst": ("ueopmc", 0),
    "softlimit": ("amdoscf", 0),
    **dict.fromkeys(("nohup", "setsid", "time", "exec", "command"), ("", 0)),
    **dict.fromkeys(("chronic", "cronic", "run-one", "eatmydata"), ("", 0)),
}
"""Programs that run another: their options that take a word, and how many words come before the other."""

_SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "ash"}
_INTERPRETER = re.compile(
    r"(python|php|perl|ruby|node|nodejs|java|Rscript|run-parts|bundle|npx|uv|poetry)[\d.]*"
)
_EXTENSION = re.compile(r"\.(py|sh|bash|php|pl|rb|js|jar|phar|R|ts)$", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z][\w:-]{0,30}")
_CARRIES_ON = {"run", "exec"}
_WITHOUT_VERB = {"tar", "echo", "find", "logger", "mail", "kill", "ls"}
"""Programs whose first word says nothing about what they are for."""


def program_name(command: str) -> str:
    """Return the name of the program that a command is about, in the letters of a schedule's name.

    What only prepares or wraps it is passed over. Its first argument belongs to the name where it is a plain
    word: ``certbot-renew``.
    """
    first = ""
    for part in _SEPARATORS.split(command):
        words = _words(part)
        while words and (words[0] in _OPENERS or _ASSIGNMENT.fullmatch(words[0])):
            words = words[1:]
        if not words:
            continue
        found = _slug(_named(words))
        first = first or found
        if found and _base(words[0]) not in _PREPARING:
            return found
    return first or "command"


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text.lstrip(" \t({"), posix=True)
    except ValueError:  # a quote that is open here may be closed behind a separator
        return text.replace('"', " ").replace("'", " ").split()


def _named(words: Sequence[str]) -> str:
    """Return the name out of the words of one simple command."""
    program, rest = _base(words[0]), list(words[1:])
    if program in _WRAPPERS and (inner := _unwrapped(program, rest)):
        return _named(inner)
    if program in _SHELLS and "-c" in rest[:-1]:
        return program_name(rest[rest.index("-c") + 1])
    if program in _SHELLS or _INTERPRETER.fullmatch(program):
        script = _script(rest)
        if script is not None:
            program, rest = script
    name = _EXTENSION.sub("", program)
    plain = rest and _PLAIN.fullmatch(rest[0]) and program not in _WITHOUT_VERB
    return f"{name}-{rest[0]}" if plain else name


def _script(words: list[str]) -> tuple[str, list[str]] | None:
    """Return the script that an interpreter is given, and its arguments; None where it is given none."""
    for place, word in enumerate(words):
        if word in ("-m", "-jar", "-f", "--file"):
            continue
        if word in ("-c", "-e", "-r"):
            return None
        if not word.startswith("-") and word not in _CARRIES_ON:
            return _base(word), words[place + 1 :]
    return None


def _unwrapped(wrapper: str, words: list[str]) -> list[str]:
    """Return the words of the command inside a wrapper; none where there is none."""
    taking, before = _WRAPPERS[wrapper]
    place = 0
    while place < len(words):
        word = words[place]
        if word in ("-c", "--command") and place + 1 < len(words):
            return _words(words[place + 1])
        if word.startswith("-") and word != "-":
            place += 1 + (len(word) == 2 and word[1] in taking)
        elif word == "-" or _ASSIGNMENT.fullmatch(word):
            place += 1
        elif before:
            before, place = before - 1, place + 1
        else:
            return words[place:]
    return []


def _base(word: str) -> str:
    return PurePosixPath(word).name or word


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:NAME_CHARS_MAX].rstrip("-._")
