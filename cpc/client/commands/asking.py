"""Questions to the person at the terminal, and secrets that come in on stdin instead."""

from __future__ import annotations

import sys

import click

from cpc.core.errors import BadInput


def terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def sure(question: str) -> bool:
    """Whether the person says yes; without a terminal nobody is asked, and the command goes on."""
    return not terminal() or click.confirm(question, err=True)


def password(title: str, from_stdin: bool, repeat: bool = False) -> str:
    """A password: hidden, twice if it is a new one; or a line of stdin."""
    if from_stdin:
        line = sys.stdin.readline()
        if not line.rstrip("\r\n"):
            raise BadInput("there is no password on stdin", "send it as one line")
        return line.rstrip("\r\n")
    if not terminal():
        raise BadInput("there is no terminal to ask for the password", "send it on stdin and add --stdin")
    given: str = click.prompt(title, hide_input=True, err=True)
    if repeat and click.prompt(f"{title} again", hide_input=True, err=True) != given:
        raise BadInput("the two passwords differ", "nothing was changed; try again")
    return given
