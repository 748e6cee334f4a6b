"""The token that slurmrestd is asked with: what a file may have around it, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpc.api import HttpAnswer, NotConnected, Tools, Unavailable
from cpc.core.chance import SeededChance
from cpc.plugins.schedulers.slurm_rest import SlurmRest
from cpc.server.offline import wait
from tests.simulation.clock import Clock, VirtualReactor


def asked(path: Path) -> tuple[SlurmRest, list[str]]:
    """The scheduler, and the tokens that it sends."""
    sent: list[str] = []

    async def http(method: str, url: str, headers: dict[str, str], *_: object) -> HttpAnswer:
        sent.append(headers["X-SLURM-USER-TOKEN"])
        raise NotConnected("nobody is there")

    async def run(*_: object) -> object:
        raise AssertionError("it has no commands")

    tools = Tools(run, http, Clock(VirtualReactor()), SeededChance(1))  # type: ignore[arg-type]
    return SlurmRest(tools, {"url": "http://h:1", "user": "u", "token_file": str(path)}), sent


@pytest.mark.parametrize("text", ["a.b.c", "a.b.c\n", "SLURM_JWT=a.b.c\r\n", "\n a.b.c \n\n"])
def test_what_editors_and_scontrol_put_around_a_token_is_no_part_of_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    scheduler, sent = asked(path)
    with pytest.raises(NotConnected):
        wait(scheduler.nodes())
    assert sent == ["a.b.c"]


@pytest.mark.parametrize(("text", "says"), [("\n", "it is empty"), ("a.b.c\nd.e.f\n", "more than one word")])
def test_a_file_that_is_no_token_is_named_and_nobody_is_asked(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    scheduler, sent = asked(path)
    with pytest.raises(Unavailable, match=says):
        wait(scheduler.nodes())
    (check,) = wait(scheduler.diagnose())
    assert not check.ok
    assert says in check.words
    assert sent == []
