"""Logging: one line a record."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.log import JSONFormatter, LineFormatter, LogOptions, Tail, setup

LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ "


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    """The package's logger, which is put back as it was."""
    found = logging.getLogger("deepaas")
    before = found.handlers[:], found.level, found.propagate
    yield found
    for handler in found.handlers:
        if handler not in before[0]:
            handler.close()
    found.handlers[:], found.level, found.propagate = before


def record(message: str, *args: Any, created: float = 0.0, **kwargs: Any) -> logging.LogRecord:
    made = logging.LogRecord("deepaas.x", logging.INFO, "", 0, message, args, None, **kwargs)
    made.created, made.msecs, made.process = created, created % 1 * 1000, 7
    return made


# --- where it goes ---------------------------------------------------------------------------


def test_log_goes_to_stdout(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    setup(LogOptions())
    logger.getChild("x").info("text %s", 1)
    out, err = capsys.readouterr()
    assert re.fullmatch(LINE + r"INFO deepaas\.x text 1\n", out)
    assert err == ""


def test_log_follows_stdout(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup(LogOptions())
    monkeypatch.setattr(sys, "stdout", sys.stderr)
    logger.info("text")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(" text\n")


def test_log_goes_to_a_file_alone(
    logger: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(LogOptions(file=str(tmp_path / "log")))
    logger.info("ä")
    assert re.fullmatch(LINE + "INFO deepaas ä\n", (tmp_path / "log").read_text("utf-8"))
    assert capsys.readouterr() == ("", "")


def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        setup(LogOptions(file=str(tmp_path / "absent" / "log")))


def test_set_up_twice_logs_once(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    setup(LogOptions())
    setup(LogOptions())
    logger.info("text")
    assert capsys.readouterr().out.count("text") == 1


def test_records_do_not_go_to_other_handlers(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    setup(LogOptions())
    logger.info("text")
    assert caplog.records == []


def test_level_is_the_least_that_is_logged(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(LogOptions(level="WARNING"))
    logger.info("no")
    logger.warning("yes")
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["yes"]


@pytest.mark.parametrize(
    ("to_file", "as_json"),
    [
        (True, False),
        pytest.param(False, False),
        (False, True),
        (True, True),
    ],
)
def test_any_text_is_logged(
    logger: logging.Logger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_json: bool,
    to_file: bool,
) -> None:
    path = tmp_path / "log"
    setup(LogOptions(file=str(path) if to_file else "", json=as_json))
    with path.open("a", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        logger.info("before %s after", "\udcff")
    (line,) = path.read_text("utf-8").splitlines()
    assert "before" in line
    assert "after" in line
    assert capsys.readouterr().err == ""


# --- lines -----------------------------------------------------------------------------------


def test_line_has_time_process_level_and_name() -> None:
    formatter = LineFormatter()
    formatter.converter = time.gmtime
    assert formatter.format(record("text %d", 1, created=86400.25)) == (
        "1970-01-02 00:00:00.250 7 INFO deepaas.x text 1"
    )


def test_time_is_that_of_each_record() -> None:
    formatter = LineFormatter()
    formatter.converter = time.gmtime
    seconds = [0.5, 0.75, 1.0, 61.0, 60.5, -1.0]
    assert [formatter.format(record("", created=second))[14:23] for second in seconds] == [
        "00:00.500",
        "00:00.750",
        "00:01.000",
        "01:01.000",
        "01:00.500",
        "59:59.000",
    ]


# --- JSON ------------------------------------------------------------------------------------


def test_json_has_time_process_level_name_and_message() -> None:
    formatted = JSONFormatter().format(record("two\nlines %d", 1, created=86400.25))
    assert "\n" not in formatted
    assert json.loads(formatted) == {
        "asctime": "1970-01-02T00:00:00.250+00:00",
        "process": 7,
        "levelname": "INFO",
        "name": "deepaas.x",
        "message": "two\nlines 1",
    }


def test_json_has_the_traceback() -> None:
    made = record("text")
    try:
        raise ValueError("cause")
    except ValueError:
        made.exc_info = sys.exc_info()
    traceback = json.loads(JSONFormatter().format(made))["traceback"]
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.endswith("ValueError: cause\n")


# --- the tail --------------------------------------------------------------------------------


@given(st.lists(st.text("abc\n", max_size=30), max_size=20), st.integers(1, 20))
def test_tail_holds_the_newest(texts: list[str], size: int) -> None:
    tail = Tail(size)
    for text in texts:
        tail.write(text.encode())
    assert tail.text() == "".join(texts)[-size:]


def test_tail_is_bounded() -> None:
    tail = Tail(100)
    for _ in range(1000):
        tail.write(b"x" * 30)
        assert len(tail._data) <= 200
    tail.write(b"y" * 10_000)
    assert len(tail._data) <= 200
    assert tail.text() == "y" * 100


def test_tail_may_begin_within_a_character() -> None:
    tail = Tail(3)
    tail.write("ää".encode())
    assert tail.text() == "\N{REPLACEMENT CHARACTER}ä"


def test_records_go_to_the_tail_too(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    tail = Tail(1000)
    setup(LogOptions(), tail)
    logger.info("ä")
    assert re.fullmatch(LINE + "INFO deepaas ä\n", tail.text())
    assert capsys.readouterr().out == tail.text()


def test_tail_takes_any_text(logger: logging.Logger, tmp_path: Path) -> None:
    tail = Tail(1000)
    setup(LogOptions(file=str(tmp_path / "log")), tail)
    logger.info("\udcff")
    assert tail.text().endswith(" \\udcff\n")


# --- options ---------------------------------------------------------------------------------


def test_options_travel_as_plain_data() -> None:
    options = LogOptions("DEBUG", "/log", True)
    assert options.as_dict() == {"level": "DEBUG", "file": "/log", "json": True}
    assert LogOptions(**json.loads(json.dumps(options.as_dict()))) == options
