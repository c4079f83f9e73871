"""Tokens: their lines, the program that makes them, and the file that is read again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from deepaas.auth import token_lines
from deepaas.auth.token_lines import SCOPES, LineError, Token, line_of, parse, parse_line
from deepaas.auth.tokens import Tokens
from deepaas.exceptions import BadTokenError, ConfigurationError
from deepaas.http.principal import Principal
from deepaas.http.routing import Access
from tests.auth.token_files import TokenFile

HASH = "sha256:" + "ab" * 32


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens")


def headers(*values: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict([("Authorization", value) for value in values]))


# --- lines


def test_line_says_all_about_a_token() -> None:
    line = f"alice {HASH} scopes=read,train models=a,b%20c expires=2030-01-01T00:00:00Z"
    assert parse_line(line) == Token(
        b"\xab" * 32,
        Principal(
            "alice", frozenset({Access.READ, Access.TRAIN}), frozenset({"a", "b c"}), 1893456000.0
        ),
    )


@pytest.mark.parametrize("text", ["2030-01-01", "2030-01-01T00:00", "2030-01-01T02:00:00+02:00"])
def test_time_may_be_written_in_several_ways(text: str) -> None:
    assert parse_line(f"alice {HASH} scopes=read expires={text}").principal.expires == 1893456000.0


@given(
    st.sets(st.sampled_from(sorted(SCOPES)), min_size=1),
    st.none() | st.sets(st.text(min_size=1), min_size=1),
    st.none() | st.integers(0, 10**10),
)
def test_line_that_was_written_is_read(
    scopes: set[str], models: set[str] | None, expires: int | None
) -> None:
    names = None if models is None else frozenset(one for one in models if _is_text(one))
    limited = names if names is None or names else frozenset({"a"})
    principal = Principal("a-b", frozenset(SCOPES[one] for one in scopes), limited, expires)
    token = Token(b"\1" * 32, principal)
    assert parse_line(line_of(token)) == token


def _is_text(name: str) -> bool:
    return all(not 0xD800 <= ord(letter) < 0xE000 for letter in name)


WRONG = {
    "alice": "the second word must be sha256:",
    "alice secret scopes=read": "the second word must be sha256:",
    "alice sha256:abcd scopes=read": "64 hexadecimal digits",
    f"alice! {HASH} scopes=read": "the name must be",
    f"{'a' * 201} {HASH} scopes=read": "the name must be",
    f"alice {HASH}": "scopes= is missing",
    f"alice {HASH} scopes=write": "a scope must be one of read, predict, train, admin",
    f"alice {HASH} scopes=public": "a scope must be one of",
    f"alice {HASH} scopes=,": "a scope must be one of",
    f"alice {HASH} scopes=": "scopes= must be there once, with a value",
    f"alice {HASH} scopes=read scopes=train": "scopes= must be there once",
    f"alice {HASH} scopes=read models=,": "models= must name one or more models",
    f"alice {HASH} scopes=read expires=tomorrow": "a time must be a date",
    f"alice {HASH} scopes=read role=x": "only scopes=, models= and expires= may follow",
    f"alice {HASH} scopes=read\nbob {HASH} scopes=read": "the same token as in line 2",
}


@pytest.mark.parametrize(("text", "said"), WRONG.items(), ids=range(len(WRONG)))
def test_malformed_line_is_named_by_its_number_and_not_quoted(text: str, said: str) -> None:
    with pytest.raises(LineError) as caught:
        list(parse(f"# a comment\n{text}\n"))
    assert str(caught.value).startswith(f"line {2 + text.count(chr(10))}: ")
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


# --- python -m deepaas.auth.make


def make(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deepaas.auth.make", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_program_prints_a_token_and_its_line(tmp_path: Path) -> None:
    before = int(time.time())
    ran = make(
        "alice", "--scopes", "read,train", "--models", "a,b", "--expires", "2h", cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    token, line = ran.stdout.splitlines()[1], ran.stdout.splitlines()[-1]
    made = parse_line(line)
    assert made.digest == token_lines.digest_of(token)
    assert made.principal.models == frozenset({"a", "b"})
    assert made.principal.scopes == {Access.READ, Access.TRAIN}
    assert made.principal.expires is not None
    assert before + 7200 <= made.principal.expires <= time.time() + 7200
    assert token.startswith("dpt_")
    assert len(token) >= 40


async def test_program_adds_lines_to_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    first = make("alice", "--token-file", "tokens", cwd=tmp_path)
    path.write_text(path.read_text().rstrip("\n"))
    second = make("bob", "--scopes", "admin", "--token-file", "tokens", cwd=tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    tokens = Tokens(str(path), "")
    for ran, name in (first, "alice"), (second, "bob"):
        principal = await tokens.authenticate(headers(f"Bearer {ran.stdout.strip()}"))
        assert principal is not None
        assert principal.name == name
        assert ran.stdout.strip() not in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a b"], "the name must be"),
        ([""], "the name must be"),
        (["a", "--scopes", "all"], "a scope must be one of"),
        (["a", "--expires", "soon"], "a time must be a date"),
        (["a", "--token-file", "no/where"], "no/where cannot be written: No such file"),
    ],
)
def test_program_says_what_is_wrong(tmp_path: Path, arguments: list[str], said: str) -> None:
    ran = make(*arguments, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1


# --- the file


async def test_header_is_a_token_or_no_sign_in(file: TokenFile) -> None:
    value = file.add("alice")["Authorization"]
    token = value.removeprefix("Bearer ")
    tokens = Tokens(str(file.path), "")
    for good in (value, f"bearer {token}", f"BEARER  {token} "):
        principal = await tokens.authenticate(headers(good))
        assert principal is not None
        assert principal.name == "alice"
    for none in ((), (f"Basic {token}",), (token,), ("",)):
        assert await tokens.authenticate(headers(*none)) is None
    for bad in ((f"Bearer {token}x",), (value, value), ("Bearer",), ("Bearer \udcff" * 40,)):
        with pytest.raises(BadTokenError):
            await tokens.authenticate(headers(*bad))


async def test_short_token_is_refused_even_if_the_file_has_its_hash(file: TokenFile) -> None:
    short = "password"
    file.write(f"alice sha256:{token_lines.digest_of(short).hex()} scopes=admin\n")
    with pytest.raises(BadTokenError):
        await Tokens(str(file.path), "").authenticate(headers(f"Bearer {short}"))


BROKEN = {
    "missing": "cannot be read: No such file or directory",
    "directory": "it is not a file",
    "fifo": "it is not a file",
    "open to others": "other users can read or change it; correct that with: chmod 600",
    "open to the group": "other users can read or change it",
    "not a text": "it is not a text in UTF-8",
    "large": "it is larger than",
    "malformed": "line 1: the second word must be sha256:",
    "empty": "has no token; make one with: python -m deepaas.auth.make",
}


def break_file(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind != "missing":
        texts = {"not a text": b"\xff\xff", "malformed": b"alice secret", "empty": b"# nothing\n"}
        path.write_bytes(texts.get(kind, f"alice {HASH} scopes=read\n".encode()))
        path.chmod({"open to others": 0o644, "open to the group": 0o620}.get(kind, 0o600))
        if kind == "large":
            os.truncate(path, 4 * 1024 * 1024 + 1)


@pytest.mark.parametrize(("kind", "said"), BROKEN.items())
def test_file_that_cannot_be_used_is_a_clear_error(file: TokenFile, kind: str, said: str) -> None:
    break_file(file.path, kind)
    with pytest.raises(ConfigurationError) as caught:
        Tokens(str(file.path), "")
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "--token-file" in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in BROKEN if kind != "empty"])
async def test_file_that_breaks_leaves_the_tokens_as_they_were(
    file: TokenFile, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("deepaas.auth.tokens.LOOK_SECONDS", 0.0)
    value = file.add("alice")
    tokens = Tokens(str(file.path), "")
    version = tokens.version()
    break_file(file.path, kind)
    for _ in range(3):
        assert await tokens.authenticate(headers(value["Authorization"])) is not None
    assert tokens.version() == version
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert BROKEN[kind] in record.getMessage()
    if file.path.is_dir():
        file.path.rmdir()
    file.add("bob")
    file.remove("alice")
    assert tokens.version() == version + 1
    with pytest.raises(BadTokenError):
        await tokens.authenticate(headers(value["Authorization"]))


async def test_file_without_tokens_revokes_all(
    file: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepaas.auth.tokens.LOOK_SECONDS", 0.0)
    value = file.add("alice")
    tokens = Tokens(str(file.path), "")
    file.remove("alice")
    with pytest.raises(BadTokenError):
        await tokens.authenticate(headers(value["Authorization"]))


async def test_change_that_keeps_size_and_time_of_the_file_is_seen(
    file: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of a file system is coarse, and an editor may write into the same file."""
    monkeypatch.setattr("deepaas.auth.tokens.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("deepaas.auth.tokens._signature", lambda status: (1,))
    alice = file.add("alice")
    tokens = Tokens(str(file.path), "")
    file.remove("alice")
    carol = file.add("carol")
    assert await tokens.authenticate(headers(carol["Authorization"])) is not None
    with pytest.raises(BadTokenError):
        await tokens.authenticate(headers(alice["Authorization"]))


async def test_tokens_of_the_environment_count_too(file: TokenFile) -> None:
    alice, text = file.add("alice"), file.path.read_text()
    file.remove("alice")
    bob = file.add("bob")
    tokens = Tokens(str(file.path), text)
    for value, name in (alice, "alice"), (bob, "bob"):
        principal = await tokens.authenticate(headers(value["Authorization"]))
        assert principal is not None
        assert principal.name == name
    with pytest.raises(ConfigurationError, match="DEEPAAS_TOKENS, line 1: "):
        Tokens("", "alice secret")


def test_model_that_is_not_served_is_named_in_the_log(
    file: TokenFile, caplog: pytest.LogCaptureFixture
) -> None:
    file.add("alice", models=["echo", "ehco"])
    Tokens(str(file.path), "", frozenset({"echo"}))
    assert "Tokens name models that this server does not serve: ehco" in caplog.text


# --- principals


@pytest.mark.parametrize("name", ["", "a" * 201, "a\nb", "a\x1b[1m", "\udcff"])
def test_name_that_could_forge_log_lines_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        Principal(name, frozenset())


def test_principal_without_scopes_may_use_public_routes_only() -> None:
    nobody = Principal("nobody", frozenset())
    assert [one for one in Access if nobody.may(one)] == [Access.PUBLIC]
