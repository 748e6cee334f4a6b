"""Pages of the manual that are printed from the code. `--check` fails when one is not current.

python -m docs.generate [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from cpc.core.outcome import Outcome
from cpc.queue import job, verdict
from cpc.server import roles, settings

HERE = Path(__file__).parent


def job_chart() -> str:
    """The job's states as a Mermaid chart and a table."""
    lines = [
        "# The life of a job",
        "",
        "Printed from `cpc/queue/job.py`. What is not drawn cannot happen.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> waiting",
        "    [*] --> blocked",
    ]
    for (state, event), after in job.TABLE.items():
        lines.append(f"    {state.label} --> {after.label}: {event}")
    lines += [f"    {state.label} --> [*]" for state in job.State if state.terminal]
    lines += ["```", "", "| state | event | becomes |", "|---|---|---|"]
    lines += [f"| {state.label} | {event} | {after.label} |" for (state, event), after in job.TABLE.items()]
    return "\n".join(lines) + "\n"


def verdict_table() -> str:
    """What the server makes of a worker's report."""
    lines = [
        "# What becomes of a report",
        "",
        "Printed from `cpc/queue/verdict.py`. A worker reports how an attempt ended; whose attempt it is and where the job",
        "stands decide what happens. Every report is answered, so that the worker may forget it.",
        "",
        "| the attempt is | it ended | the job is | verdict |",
        "|---|---|---|---|",
    ]
    for (relation, kind, state), said in verdict.TABLE.items():
        lines.append(f"| {relation} | {kind} | {state.label} | **{said}** |")
    lines += ["", "## Outcomes", "", "| outcome | kind | blames the job |", "|---|---|---|"]
    for outcome in Outcome:
        lines.append(f"| {outcome} | {verdict.kind(outcome)} | {'yes' if outcome.blames_job else 'no'} |")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every setting of the server."""
    lines = [
        "# Settings",
        "",
        "Printed from `cpc/server/settings.py`. Change one with `cpc-server config NAME VALUE` or `cpcc config NAME VALUE`;",
        "most take effect at once. Addresses, ports and the database's URL are in `server.json`: see",
        "[setting up a server](../admin/setup.md).",
        "",
        "| name | default | what for | needs a restart |",
        "|---|---|---|---|",
    ]
    for setting in settings.SETTINGS.values():
        default = setting.default or "(empty)"
        lines.append(f"| `{setting.name}` | {default} | {setting.text} | {'yes' if setting.restart else 'no'} |")
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "charts/job.md": job_chart,
    "charts/verdicts.md": verdict_table,
    "reference/settings.md": settings_page,
    "reference/roles.md": roles.markdown,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or say which are not current."""
    stale = []
    for name, page in PAGES.items():
        path = HERE / name
        text = page()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale and "--check" in arguments:
        print(f"not current: {', '.join(stale)}; run python -m docs.generate", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
