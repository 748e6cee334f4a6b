"""Find out what is wrong."""

from __future__ import annotations

from collections import Counter

import click
import msgspec

from cpc.server.commands import Context, pass_context
from cpc.server.doctor import Doctor, Finding, Level


@click.command(short_help="Check everything, and say what to do.")
@click.option("--deep", is_flag=True, help="Read every stored file and every index: takes a while.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_context
def doctor(context: Context, deep: bool, as_json: bool) -> int:
    """Check files, identity, database, disk, clock, ports, names, certificates and backups; changes nothing.

    Each line begins with ok, warn or FAIL. Exit code 1 when something fails.
    """
    found: list[Finding] = []
    for finding in Doctor(context.base, context.place(), context.clock, context.chance, deep).examine():
        found.append(finding)
        if not as_json:
            click.echo(f"{finding.level:4}  {finding.text}{f' → {finding.todo}' if finding.todo else ''}")
    counts = Counter(finding.level for finding in found)
    if as_json:
        click.echo(msgspec.json.encode({"version": 1, "findings": found}))
    else:
        click.echo(f"{counts[Level.OK]} ok, {counts[Level.WARN]} to look after, {counts[Level.FAIL]} failed")
    return 1 if counts[Level.FAIL] else 0
