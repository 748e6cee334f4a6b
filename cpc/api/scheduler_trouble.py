"""Trouble for scheduler plugins, made between them and their tools: answers lost, hostile, or never given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cpc.api.scheduler import HttpAnswer, Ran, Tools
from cpc.core.errors import CopernicusError, Unavailable

#: What no system says: each must come out as one of our errors, never as a fact and never as another exception.
HOSTILE = (
    "", "\n", "\0\0\0", "garbage", "{", "[]", "null", '{"jobs": 5}', "\x1f" * 40, "1|2|3\n" * 3, "9" * 400, "-1", "𝟙𝟚𝟛",
    "12_[0-99999999999]\x1fRUNNING", "<html>502 Bad Gateway</html>", "\ud7ff\N{REPLACEMENT CHARACTER}\n",
)  # fmt: skip


class Between:
    """Stands between a plugin and its tools: counts what is asked, and may answer something else."""

    def __init__(self, tools: Tools, answer: Callable[[Any], Any] | None = None) -> None:
        """`answer`: makes what the plugin is told from the true answer, or raises. Without `first`, nobody is asked."""
        self.asked = 0
        self._answer = answer
        self._under = tools
        self.tools = replace(tools, run=self._run, http=self._http)

    async def _run(
        self, argv: Sequence[str], stdin: str = "", timeout: float = 30.0, env: Mapping[str, str] | None = None
    ) -> Ran:
        self.asked += 1
        ran = await self._under.run(argv, stdin, timeout, env)
        return ran if self._answer is None else self._answer(ran)

    async def _http(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout: float = 30.0
    ) -> HttpAnswer:
        self.asked += 1
        told = await self._under.http(method, url, headers, body, timeout)
        return told if self._answer is None else self._answer(told)


def lost_answers(tools: Tools) -> Tools:
    """Everything is done, and no answer arrives in time."""

    def lose(told: Any) -> Any:
        raise Unavailable("the command did not end within 30 s")

    return Between(tools, lose).tools


def instead(tools: Tools, text: str, code: int = 0) -> Tools:
    """Nothing is done, and every answer is `text`."""

    async def run(
        argv: Sequence[str], stdin: str = "", timeout: float = 30.0, env: Mapping[str, str] | None = None
    ) -> Ran:
        return Ran(code, text, text if code else "")

    async def http(
        method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout: float = 30.0
    ) -> HttpAnswer:
        return HttpAnswer(500 if code else 200, text.encode("utf-8", "replace"))

    return replace(tools, run=run, http=http)


def failing(tools: Tools, error: CopernicusError) -> Tools:
    """Nothing is done, and every question raises `error`."""

    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    return replace(tools, run=fail, http=fail)
