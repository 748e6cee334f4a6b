"""Whom the client talks to: a server is pinned when it is added, and only that server is talked to afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpc.client import trust
from cpc.client.client import Client
from cpc.client.transport import Transport
from cpc.client.trust import Pin
from cpc.core.errors import CopernicusError, Damaged, Refused
from cpc.wire.identity import Authority, Role, fingerprint_of
from tests.helpers.small_server import SmallServer


def _der(authority: Authority) -> bytes:
    import ssl

    return ssl.PEM_cert_to_DER_cert(authority.certificate_pem.decode())


def test_the_fingerprint_is_that_of_the_public_key_whatever_the_certificate() -> None:
    authority = Authority.create("srv-1")
    again = Authority.load(authority.key_pem, authority.certificate_pem)
    assert trust.fingerprint(_der(authority)) == fingerprint_of(authority.certificate_pem) == again.fingerprint


@pytest.mark.parametrize("text", [b"", b"\x30", b"hello there", b"\x30\x82\xff\xff\x00", b"\x30\x80" + b"\x30\x03" * 9])
def test_what_is_no_certificate_has_no_fingerprint(text: bytes) -> None:
    with pytest.raises(Damaged):
        trust.fingerprint(text)


def test_first_contact_tells_the_fingerprint_of_a_server_that_holds_the_key(tmp_path: Path) -> None:
    with SmallServer(tmp_path) as api:
        client, pin = Client.meet(api.host, api.port)
        client.close()
    assert pin.fingerprint == api.authority.fingerprint
    assert pin.server == "srv-1"
    assert pin.authority == api.authority.certificate_pem.decode()


def test_first_contact_refuses_a_server_that_names_an_authority_it_has_no_certificate_of(tmp_path: Path) -> None:
    with SmallServer(tmp_path, site=True) as api, pytest.raises(Refused):
        Client.meet(api.host, api.port)


def test_a_server_with_another_key_is_refused_in_words(tmp_path: Path) -> None:
    old = Authority.create("srv-1")
    pin = Pin(server="srv-1", authority=old.certificate_pem.decode(), fingerprint=old.fingerprint)
    with (
        SmallServer(tmp_path) as api,
        pytest.raises(Refused, match=r"127\.0\.0\.1 port \d+ is not the one that was added"),
    ):
        Client(Transport(api.host, api.port, pin, "alice-token")).whoami()
    assert not api.calls, "the token must not be sent to another server"


def test_a_worker_of_the_server_cannot_pose_as_the_server(tmp_path: Path) -> None:
    with SmallServer(tmp_path, role=Role.WORKER) as api:
        pin = Pin(server="srv-1", authority=api.authority.certificate_pem.decode())
        with pytest.raises(Refused, match="is not the"):
            Client(Transport(api.host, api.port, pin, "alice-token")).whoami()
    assert not api.calls


def test_another_server_id_under_the_same_authority_is_refused(tmp_path: Path) -> None:
    with SmallServer(tmp_path) as api:
        pin = Pin(server="srv-2", authority=api.authority.certificate_pem.decode())
        with pytest.raises(Refused):
            Client(Transport(api.host, api.port, pin, "alice-token")).whoami()


def test_a_site_certificate_is_verified_by_its_name_and_the_systems_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SmallServer(tmp_path, site=True) as api:
        known = tmp_path / "site.pem"
        known.write_text(api.site_authority)
        monkeypatch.setenv("SSL_CERT_FILE", str(known))
        client, pin = Client.meet("localhost", api.port)
        assert client.server_info().id == "srv-1"
        client.close()
        assert (pin.authority, pin.fingerprint) == ("", api.authority.fingerprint)


def test_a_port_without_tls_is_explained(tmp_path: Path) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            other, _ = plain.accept()
            with other:
                other.recv(100)
                other.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(CopernicusError, match=r"127\.0\.0\.1 port \d+") as caught:
            Client.meet("127.0.0.1", plain.getsockname()[1])
        thread.join(5)
    assert "TLS" in str(caught.value)
