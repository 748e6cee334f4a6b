"""The manual says what the code does: printed pages are current, and what is named exists."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from cpc.client import main as client
from cpc.core.errors import BY_CODE
from cpc.core.outcome import Outcome
from cpc.core.probe import Way
from cpc.server import main as server
from cpc.server.commands.settings import BASICS
from cpc.server.metrics import Figures, Metrics
from cpc.server.roles import Act
from cpc.server.settings import SETTINGS
from cpc.worker.options import options_command
from docs import generate
from tests.helpers.manual import blocks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PRINTED = tuple(generate.PAGES)
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
#: Written by hand, about this release.
WRITTEN = tuple(page for page in PAGES if page.parent.name not in ("openapi", "adr", "charts"))
#: Not ours: names of PostgreSQL, of Python's futures, and of a test's fixture.
ELSEWHERE = {"synchronous_standby_names", "add_done_callback", "database_url", "tcp_wmem"}
#: Names of Copernicus 2 stand beside ours here.
COMPARISON = DOCS / "admin" / "original.md"

#: Words of the operating system in messages.
OF_THE_SYSTEM = "Address already in use"
#: Shown on the page about errors.
MISTYPED = "jbos"

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_SNAKE = re.compile(r"[a-z]+(?:_[a-z]+)+")
_LONG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """What is set as code in running text."""
    return _SPAN.findall(prose(page))


def lines_of_code(page: Path) -> Iterator[str]:
    """Code in running text, and the lines of blocks that are commands."""
    yield from spans(page)
    for language, _, lines in blocks(page.read_text()):
        if language in ("sh", "console", "indented"):
            yield from (line.removeprefix("$ ") for line in lines)


def anchors(page: Path) -> set[str]:
    """The names that a page's headings get."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading.strip()) for heading in plain}


@cache
def sources() -> str:
    return "\n".join(path.read_text() for path in (ROOT / "cpc").rglob("*.py"))


@pytest.mark.parametrize("page", PRINTED)
def test_a_page_printed_from_the_code_is_current(page: str) -> None:
    assert (DOCS / page).read_text() == generate.PAGES[page](), "run python -m docs.generate"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in _LINK.findall(re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


def test_every_page_is_in_the_contents() -> None:
    listed = set(re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text().split("nav:", 1)[1]))
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if page.parent.name != "adr"}
    assert listed == there | {"adr/README.md"}
    decisions = {page.name for page in (DOCS / "adr").glob("0*.md")}
    assert decisions == set(re.findall(r"0[\w-]+\.md", (DOCS / "adr" / "README.md").read_text()))


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    called = set(re.findall(r"\bsettings? `([a-z_]+)`", text))
    called |= set(re.findall(r"(?:cpc-server|cpcc) config ([a-z_]+)", text))
    assert called <= {*SETTINGS, *BASICS}
    assert all(generate.in_use(found) for found in called - set(BASICS)), "named as if it did something"
    others = {span for span in spans(page) if _SNAKE.fullmatch(span)} - set(SETTINGS) - set(BASICS) - ELSEWHERE
    assert {
        found for found in others if not re.search(rf"\b{found}\b", sources()) and "copernicus_" not in found
    } == set()


@pytest.mark.parametrize("page", [page for page in WRITTEN if page.name != "settings.md"], ids=name)
def test_no_setting_is_praised_that_nothing_reads(page: Path) -> None:
    named = {span for span in spans(page) if span in SETTINGS}
    assert {setting for setting in named if not generate.in_use(setting)} == set()


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_every_exit_code_that_is_named_exists(page: Path) -> None:
    sentences = re.findall(r"[Ee]xit codes?:? ([^.\n|]*(?:\n[^.\n|]+)?)", prose(page))
    codes = {int(code) for sentence in sentences for code in re.findall(r"(?<![\w.-])(\d+)(?= [a-z]|;|,|$)", sentence)}
    assert codes <= {0, 1, 2, 130} | {way.value for way in Way}


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_every_kind_of_event_that_is_named_exists(page: Path) -> None:
    groups = {kind.partition(".")[0] for kind in generate.EVENTS}
    named = {
        span for span in spans(page) if re.fullmatch(r"[a-z]+\.[a-z-]+", span) and span.partition(".")[0] in groups
    }
    named |= set(re.findall(r"--kind ([a-z.-]+)", page.read_text()))
    files = {"server.json", "server.log", "network.py", "allocation.py"}
    acts = {str(act) for act in Act} if page.name == "roles.md" else set()
    assert named - files - acts <= set(generate.EVENTS)


def test_the_kinds_of_events_are_those_of_the_code() -> None:
    assert generate.kinds_in_the_code() == set(generate.EVENTS)


@cache
def options(program: str, command: str) -> frozenset[str]:
    """The options that a command takes."""
    module = {"cpcc": client, "cpc-server": server}[program]
    group = module.cpcc if module is client else module.cpc_server
    found = group.get_command(click.Context(group, info_name=program), command)
    assert found is not None, f"there is no command {program} {command}"
    parts = [found, *(found.commands.values() if isinstance(found, click.Group) else ())]
    own = {flag for part in parts for one in part.params for flag in (*one.opts, *one.secondary_opts)}
    return frozenset({*own, *module.ANYWHERE, "--help", "--version"})


def command_of(program: str, words: list[str]) -> str:
    """The command in these words; "" when they only name the program, or say COMMAND."""
    anywhere = client.ANYWHERE if program == "cpcc" else dict.fromkeys(server.ANYWHERE, "VALUE")
    rest = iter(words)
    for word in rest:
        if word in anywhere:
            if anywhere[word]:
                next(rest, None)
        elif not word.startswith("-"):
            return word if re.fullmatch(r"[a-z-]+", word) else ""
    return ""


@pytest.mark.parametrize("page", [page for page in WRITTEN if page != COMPARISON], ids=name)
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    wrong = []
    for line in lines_of_code(page):
        for program, rest in re.findall(r"(?<![\w./-])(cpcc|cpc-server) ([^|;&)#`]*)", line.split(" -- ")[0]):
            words = rest.split()
            command = command_of(program, words)
            table = (
                {**client.COMMANDS, **client.ALIASES} if program == "cpcc" else {**server.COMMANDS, **server.ALIASES}
            )
            if command in ("", MISTYPED):
                continue
            if command not in table:
                wrong.append(f"{program} {command}")
                continue
            wrong += [
                f"{program} {command} {flag}" for flag in _LONG.findall(rest) if flag not in options(program, command)
            ]
    assert not wrong


def test_every_command_is_on_the_page_for_those_who_come_from_copernicus_2() -> None:
    text = COMPARISON.read_text()
    not_named = {command for command in client.COMMANDS if f"`{command}" not in text}
    assert not_named <= {"events", "upload-file", "completion"}


def test_all_options_of_workers_are_explained() -> None:
    text = (DOCS / "admin" / "workers.md").read_text()
    command = options_command(lambda settings: settings)
    shown = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    assert [one.opts for one in shown if not any(f"| `{flag}" in text for flag in one.opts)] == []


def test_all_options_of_jobs_are_explained() -> None:
    text = "".join((DOCS / "user" / page).read_text() for page in ("jobs.md", "files.md", "bad-days.md"))
    own = options("cpcc", "submit") - set(client.ANYWHERE) - {"--help", "--version"}
    assert {flag for flag in own if flag.startswith("--") and flag not in text} == set()


def test_all_codes_of_errors_are_explained() -> None:
    text = (DOCS / "user" / "bad-days.md").read_text()
    told = dict(re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", text, re.MULTILINE))
    assert told == {code: str(kind.status) for code, kind in BY_CODE.items()}


@pytest.mark.parametrize("page", ["user/bad-days.md", "admin/operation.md", "admin/workers.md"])
def test_messages_are_quoted_as_they_are_said(page: str) -> None:
    tables = re.findall(
        r"^\| (?:it|the reason) says \|.*\n\|[-|]+\n((?:\|.*\n)+)", (DOCS / page).read_text(), re.MULTILINE
    )
    assert tables
    quoted = [row.split(" | ")[0].strip("| `") for table in tables for row in table.splitlines()]
    parts = {part.strip(" `") for text in quoted for part in re.split(r"…|\bN\b|: |, or |, again|`", text)}
    wrong = {part for part in parts if len(part) > 8 and part not in sources() + OF_THE_SYSTEM}
    assert not wrong


def test_all_outcomes_are_explained() -> None:
    text = (DOCS / "user" / "jobs.md").read_text()
    assert {
        str(outcome) for outcome in Outcome if not re.search(rf"^\|.*\b{outcome}\b.*\|", text, re.MULTILINE)
    } == set()


def test_all_reasons_for_waiting_are_explained() -> None:
    told = set(re.findall(r"^\| (`.*?) \|", (DOCS / "user" / "why.md").read_text(), re.MULTILINE))
    said = {kind for text in told for kind in _SPAN.findall(text)}
    known = set(re.findall(r'Because\(\s*"([a-z-]+)"', sources())) | set(
        re.findall(r'Reason\(\s*(?:kind=)?"([a-z-]+)"', sources())
    )
    assert known <= said
    assert {kind for kind in said if f'"{kind}"' not in sources()} == set()


def test_all_figures_that_are_named_are_there() -> None:
    text = (DOCS / "admin" / "monitoring.md").read_text()
    figures = Figures(release="1", started=0.0, certificate_expiry=0.0, last_backup=0.0)
    there = set(re.findall(r"^# TYPE (\w+)", Metrics().render(figures).decode(), re.MULTILINE))
    named = set(re.findall(r"\bcopernicus_[a-z_]+", text)) - {"copernicus_"}
    assert named <= there
    assert there - named == set()


def test_the_changes_are_collected_from_fragments() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    fragments = sorted((ROOT / settings["directory"]).glob("*.md"))
    kinds = {"feature", "bugfix", "change", "removal"}
    assert fragments
    assert {fragment.name for fragment in fragments if fragment.name.split(".")[-2] not in kinds} == set()
