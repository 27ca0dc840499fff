"""What a line of a crontab runs: a command and what it reads; and the name of its program. Pure.

The percent rule is cron's own, character by character: the first % without a backslash ends the command, what
follows is its input with each further % as a new line, and a backslash makes a percent sign one. Backslashes
before anything else stay.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

NAME_CHARS_MAX = 60
LOOKED_AT_CHARS = 2000
"""How much of a command is looked at for its name: it stands at the beginning."""


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
    read, escaped, open_line = list[str](), False, False
    for sign in text:
        if escaped and sign != "%":
            read.append("\\")
        if sign != "\\":
            read.append("\n" if sign == "%" and not escaped else sign)
            open_line = read[-1] != "\n"
        escaped = sign == "\\"
    return "".join(read) + "\\" * escaped + "\n" * open_line


def _trimmed(command: str) -> str:
    """Return a command without the blanks at its end, unless one of them is quoted."""
    bare = command.rstrip(" \t")
    return bare if not bare.endswith("\\") or bare == command else bare + command[len(bare)]


# --- what it is called ------------------------------------------------------------------------------------

_PUNCTUATION = ";&|()<>"
_SUBSTITUTED = re.compile(r"\$\(\([^()]*\)\)|\$\([^()]*\)|\$\([^)]*$|`[^`]*`")
_SEPARATOR = re.compile(r"[;&|()]+")
_OPENERS = {"{", "!", "if", "then", "do", "else", "while", "until"}
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
_COMMAND = re.compile(r"-[a-z]*c")
_PLAIN = re.compile(r"[A-Za-z][\w:-]{0,30}")
_CARRIES_ON = {"run", "exec"}
_WITHOUT_VERB = {"tar", "echo", "find", "logger", "mail", "kill", "ls"}
"""Programs whose first word says nothing about what they are for."""


@lru_cache(maxsize=1024)
def program_name(command: str) -> str:
    """Return the name of the program that a command is about, in the letters of a schedule's name.

    What only prepares or wraps it is passed over. Its first argument belongs to the name where it is a plain
    word: ``certbot-renew``.
    """
    first = ""
    for words in _simple_commands(command[:LOOKED_AT_CHARS]):
        found = _slug(_named(words))
        first = first or found
        if found and not _prepares(words):
            return found
    return first or "command"


def _simple_commands(command: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line, without what opens it or sets its variables."""
    words = list[str]()
    for token in (*_tokens(command), ";"):
        if not _SEPARATOR.fullmatch(token):
            words.append(token)
            continue
        start = 0
        while start < len(words) and (words[start] in _OPENERS or _ASSIGNMENT.fullmatch(words[start])):
            start += 1
        if words[start:]:
            yield words[start:]
        words = []


def _tokens(command: str) -> list[str]:
    command = _SUBSTITUTED.sub("_", command)
    lexer = shlex.shlex(command, posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError:  # a quote is left open
        return re.findall(r"[;&|()<>]+|[^\s;&|()<>\"']+", command)


def _prepares(words: Sequence[str]) -> bool:
    """Return whether a command only prepares for the one that a line is about."""
    program = _base(words[0])
    waits = program == "perl" and len(words) > 2 and "sleep" in words[2]
    return program in _PREPARING or waits


def _named(words: Sequence[str]) -> str:
    """Return the name out of the words of one simple command."""
    inner: Sequence[str] | str = words
    while not isinstance(inner, str) and inner:
        words, inner = inner, _wrapped(_base(inner[0]), inner[1:])
    if isinstance(inner, str):
        return program_name(inner)
    program, rest = _base(words[0]), words[1:]
    if program in _SHELLS or _INTERPRETER.fullmatch(program):
        script = _script(rest)
        if script is not None:
            program, rest = script
    name = _EXTENSION.sub("", program)
    plain = rest and _PLAIN.fullmatch(rest[0]) and program not in _WITHOUT_VERB
    return f"{name}-{rest[0]}" if plain else name


def _wrapped(program: str, words: Sequence[str]) -> Sequence[str] | str:
    """Return the words of the command that a program runs, or its text; nothing where it runs none."""
    if program in _SHELLS:
        texts = (words[place + 1] for place, word in enumerate(words[:-1]) if _COMMAND.fullmatch(word))
        return next(texts, ())
    taking, before = _WRAPPERS.get(program, ("", len(words)))
    place = 0
    while place < len(words):
        word = words[place]
        if program in _WRAPPERS and word in ("-c", "--command") and place + 1 < len(words):
            return words[place + 1]
        if word.startswith("-") and word != "-":
            place += 1 + (len(word) == 2 and word[1] in taking)
        elif word == "-" or _ASSIGNMENT.fullmatch(word):
            place += 1
        elif before:
            before, place = before - 1, place + 1
        else:
            return words[place:]
    return ()


def _script(words: Sequence[str]) -> tuple[str, Sequence[str]] | None:
    """Return the script that an interpreter is given, and its arguments; None where it is given none."""
    for place, word in enumerate(words):
        if word in ("-m", "-jar", "-f", "--file"):
            continue
        if word in ("-c", "-e", "-r"):
            return None
        if not word.startswith("-") and word not in _CARRIES_ON:
            return _base(word), words[place + 1 :]
    return None


def _base(word: str) -> str:
    return PurePosixPath(word).name or word


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:NAME_CHARS_MAX].rstrip("-._")
