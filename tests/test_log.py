"""Logging: one line for each record."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.log import (
    NAMES,
    JSONFormatter,
    LineFormatter,
    LineHandler,
    LogOptions,
    Tail,
    get_logger,
    pass_on,
    setup,
)

LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ "


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    """Return a logger of the package; restore the settings of all its loggers at the end."""
    tops = [get_logger("deepaas.x").parent, logging.getLogger("deepaas")]
    before = [(top, top.handlers[:], top.level, top.propagate) for top in tops if top]
    yield get_logger("deepaas.x")
    for top, handlers, level, propagate in before:
        for handler in top.handlers:
            if isinstance(handler, LineHandler):
                handler.let_go()
        top.handlers[:], top.level, top.propagate = handlers, level, propagate


def record(message: str, *args: Any, created: float = 0.0, **kwargs: Any) -> logging.LogRecord:
    made = logging.LogRecord("deepaas.x", logging.INFO, "", 0, message, args, None, **kwargs)
    made.created, made.msecs, made.process = created, created % 1 * 1000, 7
    return made


# --- streams ---------------------------------------------------------------------------------


def test_log_goes_to_stdout(logger: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    setup(LogOptions())
    logger.info("text %s", 1)
    out, err = capfd.readouterr()
    assert re.fullmatch(LINE + r"INFO deepaas\.x text 1\n", out)
    assert err == ""


def test_records_of_the_public_loggers_go_there_too(capfd: pytest.CaptureFixture[str]) -> None:
    setup(LogOptions())
    logging.getLogger("deepaas.public").info("text")
    assert re.fullmatch(LINE + r"INFO deepaas\.public text\n", capfd.readouterr().out)


def test_log_stays_where_stdout_was_at_the_start(
    logger: logging.Logger, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup(LogOptions())
    monkeypatch.setattr(sys, "stdout", sys.stderr)
    logger.info("text")
    out, err = capfd.readouterr()
    assert out.endswith(" text\n")
    assert err == ""


def test_what_was_printed_before_a_record_comes_before_it(
    logger: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    with path.open("w") as stdout, descriptor_1(stdout.fileno()):
        monkeypatch.setattr(sys, "stdout", stdout)
        setup(LogOptions())
        for number in (1, 3):
            print(number)
            logger.info("%d", number + 1)
    assert [line[-1] for line in path.read_text().splitlines()] == ["1", "2", "3", "4"]


@contextlib.contextmanager
def descriptor_1(fd: int) -> Iterator[None]:
    """Redirect descriptor 1 to `fd`."""
    saved = os.dup(1)
    os.dup2(fd, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def test_log_goes_to_a_file_alone(
    logger: logging.Logger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    setup(LogOptions(file=str(tmp_path / "log")))
    logger.info("ä")
    assert re.fullmatch(LINE + r"INFO deepaas\.x ä\n", (tmp_path / "log").read_text("utf-8"))
    assert capfd.readouterr() == ("", "")


def test_log_file_is_continued(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    setup(LogOptions(file=str(path)))
    logger.info("after")
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["before", "after"]


def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        setup(LogOptions(file=str(tmp_path / "absent" / "log")))


def test_file_that_need_not_be_opened_is_tried_again_for_each_record(
    logger: logging.Logger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "absent" / "log"
    setup(LogOptions(file=str(path)), must_open=False)
    logger.info("lost")
    logger.info("lost too")
    path.parent.mkdir()
    logger.info("kept")
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["kept"]
    said = f"deepaas: the log cannot be written: No such file or directory: {path}\n"
    assert capfd.readouterr() == ("", said)  # once


def test_full_device_is_told_once_and_fails_nothing(
    logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    setup(LogOptions(file="/dev/full"))
    logger.info("one")
    logger.info("two")
    said = "deepaas: the log cannot be written: No space left on device: /dev/full\n"
    assert capfd.readouterr() == ("", said)


def test_stdout_that_nobody_reads_fails_nothing(
    logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    with descriptor_1(writing):
        setup(LogOptions())
    os.close(writing)
    os.close(reading)
    logger.info("text")
    assert capfd.readouterr() == ("", "")


def test_line_after_one_that_was_cut_off_begins_anew(
    logger: logging.Logger, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    setup(LogOptions(file=str(path)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, limits[1]))  # the limit in bytes for any file
    try:
        logger.info("lost")
        logger.info("lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    logger.info("kept")
    logger.info("kept")
    lines = path.read_text().splitlines()
    assert [len(lines[0]), *(line.split()[-1] for line in lines[1:])] == [30, "kept", "kept"]


def test_set_up_twice_logs_once(logger: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    setup(LogOptions())
    setup(LogOptions())
    logger.info("text")
    assert capfd.readouterr().out.count("text") == 1


def test_set_up_again_leaves_no_descriptor_open() -> None:
    setup(LogOptions())
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        setup(LogOptions())
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("to_file", [False, True])
def test_descriptor_is_not_passed_on_to_programs(tmp_path: Path, to_file: bool) -> None:
    handler = LineHandler(str(tmp_path / "log") if to_file else "")
    handler.open()
    try:
        assert not os.get_inheritable(handler._fd)
    finally:
        handler.let_go()


def test_records_do_not_go_to_other_handlers(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    setup(LogOptions())
    logger.info("text")
    logging.getLogger("deepaas.public").info("text")
    assert caplog.records == []


def test_level_is_the_least_that_is_logged(
    logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    setup(LogOptions(level="WARNING"))
    logger.info("no")
    logger.warning("yes")
    assert [line.split()[-1] for line in capfd.readouterr().out.splitlines()] == ["yes"]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("to_file", [False, True])
def test_any_text_is_logged(
    logger: logging.Logger,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    as_json: bool,
    to_file: bool,
) -> None:
    path = tmp_path / "log"
    setup(LogOptions(file=str(path) if to_file else "", json=as_json))
    logger.info("before %s after", "\udcff")
    out, err = capfd.readouterr()
    (line,) = (path.read_text("utf-8") if to_file else out).splitlines()
    assert "before" in line
    assert "after" in line
    assert err == ""


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


# --- records of models -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "label"),
    [
        ({"model": "m", "worker": "m[0]"}, "m[0]"),
        ({"model": "m", "training": "1f"}, "m training 1f"),
        ({"model": "m", "job": "1f"}, "m job 1f"),
    ],
)
def test_names_of_the_model_and_its_process_are_before_the_message(
    names: dict[str, str], label: str
) -> None:
    made = record("text")
    setattr(made, NAMES, names)
    assert LineFormatter().format(made).endswith(f" 7 INFO deepaas.x {label}: text")
    entry = json.loads(JSONFormatter().format(made))
    assert entry["message"] == "text"
    assert names.items() <= entry.items()


def test_lines_of_another_process_are_passed_on_as_they_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, tail = tmp_path / "log", Tail(1000)
    setup(LogOptions(file=str(path)), tail)
    pass_on(b"one\ntwo\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert tail.text() == "one\ntwo\n"
    assert capfd.readouterr() == ("", "")


# --- records that cannot be formatted --------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_exception_that_cannot_be_formatted_is_logged_with_its_frames(
    logger: logging.Logger, capfd: pytest.CaptureFixture[str], as_json: bool
) -> None:
    setup(LogOptions(json=as_json))
    try:
        raise SyntaxError("odd", ("file", 1, 1, 5))  # type: ignore[arg-type]  # has no text
    except SyntaxError:
        logger.exception("failed")
    out, err = capfd.readouterr()
    assert "Traceback (most recent call last)" in out
    assert "test_log.py" in out
    assert "SyntaxError('odd', ('file', 1, 1, 5))" in out
    assert err == ""


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
    logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    tail = Tail(1000)
    setup(LogOptions(), tail)
    logger.info("ä")
    assert re.fullmatch(LINE + r"INFO deepaas\.x ä\n", tail.text())
    assert capfd.readouterr().out == tail.text()


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
