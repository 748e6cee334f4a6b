"""Completion of commands and options by the shell."""

from __future__ import annotations

import click

from cpc.client.context import Context, pass_context

PLACES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/completions/cpcc.fish"}


@click.command("completion")
@click.argument("shell", type=click.Choice(sorted(PLACES)))
@pass_context
def completion(context: Context, shell: str) -> None:
    """Print what makes a shell complete cpcc's commands and options.

    For bash: eval "$(cpcc completion bash)", in ~/.bashrc. For zsh the same in ~/.zshrc. For fish: cpcc completion fish
    > ~/.config/fish/completions/cpcc.fish.
    """
    from click.shell_completion import get_completion_class

    from cpc.client.main import cpcc

    found = get_completion_class(shell)
    assert found is not None, "click knows these shells"
    script = found(cpcc, {}, "cpcc", "_CPCC_COMPLETE").source()
    context.out.data("completion", {"shell": shell, "script": script}, lambda: script, lambda: [])
