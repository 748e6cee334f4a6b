"""What all commands have in common that change a project's network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpc.client.output import harmless_lines

if TYPE_CHECKING:
    from cpc.client.context import Context
    from cpc.client.network import Network
    from cpc.core.edits import Edit
    from cpc.core.network_views import Changed


def network(context: Context) -> Network:
    """The network of the project that is meant; BadInput when there is none."""
    return context.client().network()


def edit(context: Context, *edits: Edit, otherwise: str = "Nothing was changed.") -> None:
    """Carry out edits, and say what they did; `otherwise` is said when the server has no words for it."""
    tell(context, network(context).edit(*edits), otherwise)


def tell(context: Context, changed: Changed, otherwise: str) -> None:
    """What was changed, a line each; or that it waits for `commit`."""

    def people() -> str:
        text = harmless_lines("\n".join(changed.lines)) or otherwise
        return f"{text}\n(when transaction level {changed.level} is committed)" if changed.level else text

    context.out.data("changed", changed, people, lambda: changed.lines)
