"""Pages of the manual as scripts: their fenced blocks, run in one shell at a terminal, in the order of the page.

`sh`: every command must end with 0. `console`: lines after `$ ` are commands, the others what they print, in which `…`
stands for anything. `python`: a program that must end with 0. A block with a title (`python title="x.py"`) is written to that
file. Blocks of other languages are not run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*).*$")
_TITLED = re.compile(r'^```\w+ title="([\w.-]+)"$')
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]")
_WORKER_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d .*\n", re.MULTILINE)
_MARK = "\x01"
TERMINAL = Path(__file__).with_name("terminal.py")


@dataclass(frozen=True, slots=True)
class Command:
    """One command, where it is printed, and what the page says that it prints (None: nothing is said)."""

    place: str
    text: str
    expected: str | None = None
    must_succeed: bool = True


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a command; `code` is None when it never ended."""

    command: Command
    code: int | None
    output: str

    @property
    def wrong(self) -> str:
        """Why it is not as the page says; "" when it is."""
        told = f"{self.command.place}: {self.command.text}\n"
        if self.code is None:
            return f"{told}did not end; it printed:\n{self.output}"
        if self.command.must_succeed and self.code:
            return f"{told}ended with {self.code}; it printed:\n{self.output}"
        if self.command.expected is not None and not agrees(self.output, self.command.expected):
            return f"{told}printed:\n{self.output}\nthe page says:\n{self.command.expected}"
        return ""


def agrees(printed: str, expected: str) -> bool:
    """Whether this is what the page shows; blanks at ends of lines, and runs of blanks, do not count."""
    pattern = ".*?".join(re.escape(part) for part in _plain(expected).split("…"))
    return re.fullmatch(pattern, _plain(printed), re.DOTALL) is not None


def _plain(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines() if line.strip())


def section(text: str, title: str) -> str:
    """The part of a page below one heading, with its heading's level kept out."""
    return re.split(r"^## ", text.split(f"## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """(language, line number, lines) of each fenced block; indented blocks have the language "indented", those with a title
    "file NAME"."""
    language: str | None = None
    lines: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if language is not None and language != "indented":
            if fence:
                yield language, start, lines
                language, lines = None, []
            else:
                lines.append(line)
        elif line.startswith("    "):
            if language is None:
                language, start = "indented", number
            lines.append(line[4:])
        else:
            if language == "indented":
                yield language, start, lines
                language, lines = None, []
            if fence:
                titled = _TITLED.match(line)
                language, start = f"file {titled.group(1)}" if titled else fence.group(1), number
    if language is not None:
        yield language, start, lines


def commands(text: str, page: str, indented: bool = False) -> list[Command]:
    """All commands of a page, in order. `indented`: indented blocks are shell commands too."""
    found: list[Command] = []
    for language, start, lines in blocks(text):
        if language == "sh" or (indented and language == "indented"):
            found += [Command(f"{page}:{start + at}", words) for at, words in _shell(lines)]
        elif language == "console":
            found += _console(lines, page, start)
        elif language.startswith("file "):
            text = "\n".join([f"cat > {language[5:]} <<'END OF BLOCK'", *lines, "END OF BLOCK"])
            found.append(Command(f"{page}:{start}", text))
        elif language == "python":
            program = "\n".join(["python3 - <<'END OF BLOCK'", *lines, "END OF BLOCK"])
            found.append(Command(f"{page}:{start}", program))
    return found


def _shell(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(line, command): lines are put together until the shell finds them complete."""
    waiting: list[str] = []
    for number, line in enumerate(lines, 1):
        if not waiting and (not line.strip() or line.startswith("#")):
            continue
        waiting.append(line)
        checked = subprocess.run(
            ["bash", "-n"], input="\n".join(waiting) + "\n", capture_output=True, text=True, check=False
        )
        if checked.returncode == 0 and not checked.stderr and not line.endswith("\\"):
            yield number - len(waiting) + 1, "\n".join(waiting)
            waiting = []
    assert not waiting, f"not a whole command: {waiting}"


def _console(lines: Sequence[str], page: str, start: int) -> Iterator[Command]:
    text, printed, place = "", list[str](), ""
    for number, line in enumerate([*lines, "$ "], 1):
        if line.startswith("$ "):
            if text:
                yield Command(place, text, "\n".join(printed) if printed else None, must_succeed=not printed)
            text, printed, place = line[2:], [], f"{page}:{start + number}"
        else:
            printed.append(line)


@dataclass(slots=True)
class Shell:
    """Where pages are run: a home directory, what is put in place of what, what is answered to questions, and where programs
    are found before others."""

    home: Path
    substitutions: Mapping[str, str]
    answers: Sequence[tuple[str, str]]
    programs: Path = Path(sys.executable).parent

    def run(self, todo: Sequence[Command], seconds: float) -> list[Ran]:
        """All commands in one shell; each with what it printed."""
        script = self.home / "page.sh"
        script.write_text("\n".join(self._step(number, one) for number, one in enumerate(todo)) + "\n")
        answers = self.home / "answers.json"
        answers.write_text(json.dumps(list(self.answers)))
        started = subprocess.run(
            [sys.executable, "-P", str(TERMINAL), answers, str(seconds), "bash", script],
            cwd=self.home / "work", env=self._environment(), capture_output=True, check=False,
        )  # fmt: skip
        printed = started.stdout.decode("utf-8", "replace") + started.stderr.decode()
        return list(_parts(todo, printed))

    def substituted(self, text: str) -> str:
        """The command with this test's paths, ports and names in place of the page's."""
        for printed, here in self.substitutions.items():
            text = text.replace(printed, here)
        return text

    def _step(self, number: int, command: Command) -> str:
        mark = rf"printf '\n\001{number}%s\001\n'"
        return f"{mark} ''\n{self.substituted(command.text)}\n{mark} =$?"

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CPC_", "PYTEST_"))}
        return {
            **kept, "HOME": str(self.home), "CPC_HOME": str(self.home / ".copernicus"), "COLUMNS": "120",
            "TERM": "dumb", "PATH": f"{self.programs}:{Path(sys.executable).parent}:{kept['PATH']}",
        }  # fmt: skip


def _parts(todo: Sequence[Command], printed: str) -> Iterator[Ran]:
    text = _ESCAPES.sub("", printed).replace("\r\n", "\n")
    text = re.sub(r"^[^\n]*\r(?!\n)", "", text, flags=re.MULTILINE)  # progress that was written over
    text = _WORKER_LINE.sub("", text)
    for number, command in enumerate(todo):
        begun = text.find(f"{_MARK}{number}{_MARK}")
        if begun < 0:
            yield Ran(command, None, "(it was never reached)")
            continue
        ended = re.compile(f"{_MARK}{number}=(\\d+){_MARK}").search(text, begun)
        if ended is None:
            yield Ran(command, None, text[begun:])
        else:
            yield Ran(command, int(ended.group(1)), text[begun : ended.start()].split("\n", 1)[1].strip("\n"))


def end_all(home: Path) -> None:
    """kill -9 to whatever runs in this home directory, or in one below it."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and any(one.startswith(f"HOME={home}".encode()) for one in _variables(process)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)


def _variables(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
