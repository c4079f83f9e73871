"""A server that other machines can reach logs a warning, and accepts any host name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.auth.token_files import TokenFile
from tests.support import Server, leased_port, wait_until

NO_SIGN_IN = "There is no sign-in: anybody who can connect to this address may use it"


@pytest.mark.parametrize(
    ("address", "flags", "said"),
    [
        ("0.0.0.0", [], f"{NO_SIGN_IN} (predict, train); --auth tokens requires a sign-in"),
        ("0.0.0.0", ["--admin-endpoint"], f"{NO_SIGN_IN} (predict, train, reload models)"),
        ("0.0.0.0", ["--notrain-endpoint", "--use-json"], f"{NO_SIGN_IN} (predict)"),
        ("0.0.0.0", ["--notrain-endpoint", "--nopredict-endpoint"], f"{NO_SIGN_IN} (read only)"),
        ("127.0.0.1", ["--admin-endpoint"], ""),
        ("127.0.0.2", [], ""),
        ("localhost", [], ""),
    ],
)
def test_start_says_that_there_is_no_sign_in(address: str, flags: list[str], said: str) -> None:
    """The warning appears for each address that other machines can reach."""
    with leased_port() as port:
        args = ["--listen-ip", address, "--listen-port", str(port), *flags, "zoo.echo"]
        server = Server(args=args, listen=False, port=port).start(wait=False)
        try:
            wait_until(lambda: "Listening on" in server.log(), within=20, what="the start")
            server.stop()
            assert server.log().count(NO_SIGN_IN) == (1 if said else 0)
            assert said in server.log()
            assert "ERROR" not in server.log()
        finally:
            server.kill()


def test_start_with_a_sign_in_has_no_warning(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    alice = tokens.add("alice")
    with leased_port() as port:
        args = ["--listen-ip", "0.0.0.0", "--listen-port", str(port), *tokens.flags, "zoo.echo"]
        server = Server(args=args, listen=False, port=port).start(wait=False)
        try:
            server.wait_ready()
            assert server.get("/v2/models/").status_code == 401
            assert server.get("/v2/models/", headers=alice).status_code == 200
            server.stop()
            assert "no sign-in" not in server.log()
            assert "WARNING" not in server.log()
        finally:
            server.kill()


def test_server_on_every_address_may_be_called_anything_unless_hosts_are_allowed() -> None:
    foreign = {"Host": "evil.test"}
    for flags, status in ([], 200), (["--allow-hosts", "public.example"], 421):
        with leased_port() as port:
            args = ["--listen-ip", "0.0.0.0", "--listen-port", str(port), *flags, "zoo.echo"]
            server = Server(args=args, listen=False, port=port).start(wait=False)
            try:
                server.wait_ready()
                assert server.get("/v2/models/", headers=foreign).status_code == status
                assert server.get("/v2/models/").status_code == 200
                server.stop()
            finally:
                server.kill()
