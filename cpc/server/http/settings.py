"""Settings of the server."""

from __future__ import annotations

from typing import Annotated

from cpc.core.views import Page, SettingView
from cpc.server.http.ask import Ask
from cpc.server.http.route import Question, route
from cpc.server.roles import Act


class NewValue(Question, frozen=True):
    value: str


@route("GET", "/settings", act=Act.SETTING_LIST)
async def page(ask: Ask) -> Annotated[Page, SettingView]:
    """All settings with their values and defaults."""
    return await ask.services.settings.page(ask.who)


@route("PUT", "/settings/{name}", act=Act.SETTING_SET)
async def change(ask: Ask, name: str, body: NewValue) -> SettingView:
    """Change a setting."""
    return await ask.services.settings.set(ask.call, name, body.value)
