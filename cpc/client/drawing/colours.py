"""Colours of the states of instances: filling and outline. They differ in lightness, too."""

from __future__ import annotations

STATES = {
    "active": ("#dcf3e4", "#1f8a4c"),
    "held": ("#eceff1", "#78909c"),
    "warning": ("#fff1c9", "#b7860b"),
    "error": ("#f8c9c6", "#b3261e"),
}
OTHER = ("#e3ecfb", "#3b6fb6")  # a state that this program does not know
BORDER = ("#ffffff", "#5f6b73")
INK = "#1c2429"
FAINT = "#5f6b73"
LINE = "#6b7b86"
PAPER = "#ffffff"

#: Of a box that stands for several instances: the state that needs looking at most.
WORST = ("error", "warning", "held", "active")


def of(states: dict[str, int], border: bool = False) -> tuple[str, str]:
    """Filling and outline of a box."""
    if border:
        return BORDER
    for state in WORST:
        if states.get(state):
            return STATES[state]
    return OTHER


def of_state(state: str) -> tuple[str, str]:
    """The same for one state."""
    return STATES.get(state, OTHER)
