"""The server's settings."""

from __future__ import annotations

import click

from cpc.client.context import Context, pass_context
from cpc.client.output import facts, harmless, table
from cpc.core.errors import NotFound


@click.command("config", context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False)
@click.argument("value", required=False)
@pass_context
def config(context: Context, name: str | None, value: str | None) -> None:
    """List the server's settings, show one, or change it."""
    client = context.client()
    if name is not None and value is not None:
        changed = client.set_setting(name, value)
        text = f"{changed.name} = {changed.value}" + ("  (from the next start on)" if changed.restart else "")
        context.out.data("setting", changed, lambda: harmless(text), lambda: [changed.value])
        return
    found = client.settings()
    if name is None:
        rows = [(one.name, one.value, "" if one.value == one.default else one.default, one.text) for one in found]
        context.out.data(
            "settings", found, lambda: table(("name", "value", "default", "meaning"), rows),
            lambda: [f"{one.name}={one.value}" for one in found],
        )  # fmt: skip
        return
    one = next((setting for setting in found if setting.name == name), None)
    if one is None:
        import difflib

        near = difflib.get_close_matches(name, [setting.name for setting in found], 1)
        raise NotFound(f"there is no setting {name!r}", f"did you mean {near[0]}?" if near else "see `cpcc config`")
    values = [("name", one.name), ("value", one.value), ("default", one.default), ("meaning", one.text)]
    context.out.data("setting", one, lambda: facts(values), lambda: [one.value])
