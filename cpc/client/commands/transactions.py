"""Transactions: changes that are recorded, looked at, and then carried out together or not at all."""

from __future__ import annotations

import click

from cpc.client.commands import changing
from cpc.client.context import Context, pass_context
from cpc.client.output import harmless, harmless_lines, indent
from cpc.core.errors import Conflict


@click.command("transact")
@pass_context
def transact(context: Context) -> None:
    """Record what you change in the project from now on, until commit or rollback. Levels nest."""
    made = changing.network(context).begin()
    context.out.data(
        "transaction", made, lambda: f"Beginning transaction level {made.level}", lambda: [str(made.level)]
    )


@click.command("commit")
@pass_context
def commit(context: Context) -> None:
    """Carry out what the innermost transaction has recorded: all of it, or nothing and the reason why."""
    changing.tell(context, changing.network(context).commit(), "The transaction was empty.")


@click.command("rollback")
@pass_context
def rollback(context: Context) -> None:
    """Forget what the innermost transaction has recorded."""
    ended = changing.network(context).rollback()
    context.out.data(
        "transaction", ended, lambda: f"Canceling transaction level {ended.level}", lambda: [str(ended.level)]
    )


@click.command("diff")
@pass_context
def diff(context: Context) -> int:
    """What the open transaction would change. Exit code 1 when it could not be committed now."""
    found = changing.network(context).transaction()
    if not found.level:
        raise Conflict("no transaction is open", "begin one with `cpcc transact`")

    def people() -> str:
        lines = [f"Transaction level {found.level} has recorded:", _lines(found.edits)]
        if found.problem:
            return "\n".join([*lines, f"It cannot be committed now: {harmless(found.problem)}"])
        return "\n".join([*lines, "Committing it would change:", _lines(found.changes)])

    context.out.data("transaction", found, people, lambda: found.changes)
    return 1 if found.problem else 0


def _lines(shown: tuple[str, ...]) -> str:
    return indent(harmless_lines("\n".join(shown)) or "nothing")
