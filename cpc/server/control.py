"""How the command line talks to the running server on the same machine: the public API, with a key that is made at each start.

The key lies in `control.token`, which only the server's user can read; who shows it acts in the server's name. The client
sends it only to a server that has proven to be this one.
"""

from __future__ import annotations

import hmac
import http.client
import json
import os
import socket
import ssl
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cpc.core.chance import Chance
from cpc.core.errors import BadInput, CopernicusError, NotFound, Refused, Unavailable, from_code
from cpc.core.views import BundleView, ServerStatus, ServerView, SettingView
from cpc.server.config import Config, Place, write_secret
from cpc.wire.identity import Name, Role, authority_id, name_of, read_certificate

T = TypeVar("T")

TIMEOUT = 60.0
_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def token_file(place: Place) -> Path:
    """Where the key lies while the server runs."""
    return place.directory / "control.token"


class ControlKey:
    """The server's side: made at its start, worthless after its end."""

    def __init__(self, place: Place, chance: Chance) -> None:
        self._path = token_file(place)
        self._token = f"control_{chance.token(32).hex()}"
        write_secret(self._path, self._token.encode())

    def fits(self, token: str) -> bool:
        """Whether this is the key; takes the same time for all that are not."""
        return hmac.compare_digest(self._token.encode(), token.encode("utf-8", "surrogatepass"))

    def remove(self) -> None:
        """The server ends."""
        self._path.unlink(missing_ok=True)


class Control:
    """The client's side. Calls answer, or raise what the server said; Unavailable when it does not answer."""

    def __init__(self, place: Place, config: Config, site_certificate: Callable[[], str] = lambda: "") -> None:
        self._place = place
        self._host = next((_LOCAL.get(address, address) for address in config.listen), "127.0.0.1")
        self._port = config.client_port
        self._site = site_certificate

    def pause_pool(self, name: str, reason: str) -> None:
        """Ask a pool for nothing more."""
        self.ask("POST", f"/pools/{urllib.parse.quote(name, safe='')}/pause", {"reason": reason})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One call: JSON there and back. Paths without a leading /api are below /api/v1."""
        try:
            token = token_file(self._place).read_text()
        except FileNotFoundError:
            raise Unavailable("the server does not answer yet", "try again in a moment") from None
        except OSError as error:
            raise BadInput(
                f"{error.filename} cannot be read: {error.strerror}", "run this as the server's user"
            ) from None
        headers = {"Authorization": f"Bearer {token}"}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        if method != "GET":
            headers["Idempotency-Key"] = os.urandom(16).hex()
        try:
            status, text = self._exchange(method, path, data, headers)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"the server does not answer on {self._host} port {self._port}: {error}", "see `cpc-server log`"
            ) from error
        return _read(status, text)

    def _exchange(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # `_recognise` does it, before anything is sent
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        with socket.create_connection((self._host, self._port), TIMEOUT) as plain, context.wrap_socket(plain) as secure:
            self._recognise(secure.getpeercert(binary_form=True) or b"")
            connection.sock = secure
            connection.request(method, path if path.startswith("/health") else f"/api/v1{path}", data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _recognise(self, der: bytes) -> None:
        """The other end has this server's identity, or shows the site certificate that is set."""
        shown = x509.load_der_x509_certificate(der)
        authority = read_certificate(self._place.certificate_file.read_bytes())
        try:
            shown.verify_directly_issued_by(authority)
            if name_of(shown) == Name(authority_id(authority), Role.SERVER):
                return
        except (ValueError, TypeError, InvalidSignature, CopernicusError):
            site = self._site()
            if site and x509.load_pem_x509_certificates(Path(site).read_bytes())[0] == shown:
                return
        raise Refused(
            f"another program answers on {self._host} port {self._port}",
            "if the site certificate was just replaced: kill -HUP the server, so that it reads it",
        )

    # --- what the commands ask ---

    def health(self) -> tuple[str, ...]:
        """Why the server is not well."""
        return tuple(self.ask("GET", "/health").get("reasons", ()))

    def server(self) -> ServerView:
        """Who the server is."""
        return msgspec.convert(self.ask("GET", "/server"), ServerView)

    def status(self) -> ServerStatus:
        """How it is."""
        return msgspec.convert(self.ask("GET", "/status"), ServerStatus)

    def make_bundle(self, name: str, role: str, user: str, expires_in: float) -> tuple[str, BundleView]:
        """The text of a new bundle."""
        made = self.ask("POST", "/bundles", {"name": name, "role": role, "user": user, "expires_in": expires_in})
        return made["bundle"], msgspec.convert(made["view"], BundleView)

    def bundles(self) -> list[BundleView]:
        """All bundles."""
        return self._all("/bundles?limit=1000", BundleView)

    def revoke_bundle(self, name: str) -> None:
        """The bundle is worth nothing from now on."""
        self.ask("DELETE", f"/bundles/{urllib.parse.quote(name, safe='')}")

    def settings(self) -> list[SettingView]:
        """Every setting."""
        return self._all("/settings", SettingView)

    def set(self, name: str, value: str) -> SettingView:
        """Change one."""
        changed = self.ask("PUT", f"/settings/{urllib.parse.quote(name, safe='')}", {"value": value})
        return msgspec.convert(changed, SettingView)

    def _all(self, path: str, kind: type[T]) -> list[T]:
        found: list[T] = []
        after = ""
        while True:
            page = self.ask("GET", f"{path}&after={urllib.parse.quote(after)}" if after else path)
            found += msgspec.convert(page["items"], list[kind])  # type: ignore[valid-type]
            after = page.get("next") or ""
            if not after:
                return found


def _read(status: int, text: bytes) -> Any:
    try:
        answer = json.loads(text) if text else {}
    except ValueError:
        raise Unavailable("the server's answer cannot be read", "see `cpc-server log`") from None
    if status < 400 or (status == 503 and "reasons" in answer):
        return answer
    if status == 404 and not answer:
        raise NotFound("the server does not know this call")
    raise from_code(
        str(answer.get("code", "error")), str(answer.get("message", "refused")), str(answer.get("hint", ""))
    )
