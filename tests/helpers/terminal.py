"""A person at a terminal: runs a command on a pseudo terminal, answers its questions, copies what it prints.

python -m tests.helpers.terminal ANSWERS.json SECONDS COMMAND...

A process of its own, because a pseudo terminal is made by forking. ANSWERS is a list of [regular expression for the end
of what was printed, answer]. Ends with the command's exit code; 124 when it takes longer than SECONDS.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path

PACE = 0.1


def main(arguments: list[str]) -> int:
    """See above."""
    answers = [(re.compile(asked + r"\s*\Z"), said) for asked, said in json.loads(Path(arguments[0]).read_text())]
    end = time.monotonic() + float(arguments[1])
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(arguments[2], arguments[2:])
    asked = ""
    while True:
        number, status = os.waitpid(child, os.WNOHANG)  # what it has started may still be at the terminal
        while data := read(terminal, 0 if number else PACE):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            asked = (asked + data.decode("utf-8", "replace"))[-500:]
            for question, said in answers:
                if question.search(asked):
                    os.write(terminal, said.encode() + b"\n")
                    asked = ""
                    break
        if number:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 124


def read(terminal: int, patience: float) -> bytes:
    """What is there to be read within `patience` seconds; b"" for nothing."""
    if not select.select([terminal], [], [], patience)[0]:
        return b""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody is at the terminal any more
        time.sleep(patience)
        return b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
