"""Compare servers with their descriptions by schemathesis: python -m tests.fuzz.conformance.

Each subject is a server with some models. schemathesis reads its /openapi.json, and sends valid and
invalid requests with all of its checks. `tests.fuzz.conformance_hooks` has the decisions about its
findings. The run prints the numbers of requests and of findings, and exits with 1 after a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.auth.token_files import TokenFile
from tests.support import ANSWER_SECONDS, Server, wait_until
from tests.training.trainings import ENDED

ROOT = Path(__file__).resolve().parents[2]
PHASES = ("examples", "coverage", "fuzzing", "stateful")
"""The ways of making requests; the last follows the links of responses to other operations."""

LONGEST_SECONDS = 3600.0

FUNCTIONS = "/(predict|train)/$|/models/$|/ready$"
QUEUES = [
    *("--max-trainings", "1", "--max-queued-trainings", "1000000"),
    *("--max-jobs", "1", "--max-queued-jobs", "1000000"),
]
"""No request is refused because the queue is full."""


@dataclass(frozen=True)
class Subject:
    """A server with some models.

    `paths` is a pattern of the paths to test. A model in `trained` first gets a training that ends,
    and one that keeps the others waiting.
    """

    models: Mapping[str, str]
    args: Sequence[str] = ()
    base: str = ""
    paths: str = "."
    trained: str = ""
    signs_in: bool = False


EXAMPLES = ("digits", "filetype", "language", "speech")

SUBJECTS: dict[str, Subject] = {
    "simple": Subject({"simple": "zoo.kinds:Simple"}, ["--admin-endpoint"], trained="simple"),
    "kinds": Subject(
        {
            "timed": "zoo.kinds:Timed",
            "nested": "zoo.kinds:Nested",
            "refusing": "zoo.kinds:Refusing",
            "streaming": "zoo.kinds:Streaming",
        },
        paths=FUNCTIONS,
    ),
    "files": Subject(
        {"files": "zoo.files", "several": "zoo.many_files", "media": "zoo.media"},
        paths=FUNCTIONS,
    ),
    "others": Subject(
        {
            "rich": "zoo.rich",
            "echo": "zoo.echo",
            "free": "zoo.media_free",
            "pinned": "zoo.media_header",
            "list": "zoo.schema_list",
            "bare_stream": "zoo.streaming:Bare",
            "integers": "zoo.integers",
            "bare": "zoo.bare",
        },
        base="/below/here",
        paths=FUNCTIONS,
    ),
    "signed in": Subject(
        {"refusing": "zoo.kinds:Refusing"}, paths="/refusing/|/models/$", signs_in=True
    ),
    **{
        name: Subject({name: f"deepaas_{name}{'' if name == 'filetype' else '.api'}"})
        for name in EXAMPLES
    },
}


@dataclass
class Report:
    """The numbers and the findings of one run."""

    operations: int = 0
    cases: int = 0
    seconds: float = 0.0
    errors: int = 0
    failures: list[str] = field(default_factory=list)
    decisions: Counter[str] = field(default_factory=Counter)
    output: str = ""

    @property
    def is_clean(self) -> bool:
        return not self.failures and not self.errors

    def __str__(self) -> str:
        decided = ", ".join(f"{count} {reason}" for reason, count in self.decisions.items())
        return (
            f"{self.operations:4} operations {self.cases:6} requests {self.seconds:6.0f} s "
            f"{len(self.failures):3} failures; by decision: {decided or 'none'}"
        )


def check(subject: Subject, *, examples: int, seed: int, phases: Sequence[str] = PHASES) -> Report:
    """Start the server of the subject, and let schemathesis test it.

    `examples` is the number of random requests for each operation and way of making them; the
    phase "coverage" adds requests for each constraint of the description.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        flags, headers = [*subject.args, "--base-path", subject.base or "/"], {}
        if subject.signs_in:
            tokens = TokenFile(directory / "tokens")
            headers = tokens.add("tester", "predict,train,admin")
            flags += tokens.flags
        with Server(subject.models, args=[*QUEUES, *flags]) as server:
            if subject.trained:
                _occupy(server, subject.trained)
            try:
                return _run(server, subject, directory, headers, (examples, seed, phases))
            finally:
                _cancel_all(server, subject, headers)


def _run(
    server: Server,
    subject: Subject,
    directory: Path,
    headers: Mapping[str, str],
    how: tuple[int, int, Sequence[str]],
) -> Report:
    examples, seed, phases = how
    if subject.paths == FUNCTIONS:  # the records, to which links lead, are left out
        phases = [one for one in phases if one != "stateful"]
    document = directory / "openapi.json"  # a client that has to sign in sees more than others
    described = server.get(f"{subject.base}/openapi.json", headers=headers)
    document.write_bytes(described.content)
    report, notes = directory / "report.json", directory / "notes"
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run"),
        *(str(document), "--url", server.url),
        *("--checks", "all", "--mode", "all", "--phases", ",".join(phases)),
        *("--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure"),
        *("--generation-database", "none", "--suppress-health-check", "all"),
        *("--max-redirects", "0", "--request-timeout", str(ANSWER_SECONDS)),
        *("--include-path-regex", subject.paths),
        *("--report", "json", "--report-json-path", str(report)),
    ]
    if headers:
        token = headers["Authorization"].removeprefix("Bearer ")
        (directory / "schemathesis.toml").write_text(f'[auth.openapi.token]\nbearer = "{token}"\n')
    began = time.monotonic()
    ran = subprocess.run(
        command,
        cwd=directory,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.fuzz.conformance_hooks",
            "CONFORMANCE_NOTES": str(notes),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LONGEST_SECONDS,
    )
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    if not found or not found["operations"]["tested"]:
        raise RuntimeError(f"schemathesis failed:\n{ran.stdout}")
    decisions = Counter(notes.read_text().splitlines()) if notes.exists() else Counter()
    return Report(
        operations=found["operations"]["tested"],
        cases=found["test_cases"]["generated"],
        seconds=time.monotonic() - began,
        errors=sum(error["count"] for error in found["errors"]),
        failures=[f"{one}" for one in found["failures"]],
        decisions=decisions,
        output=ran.stdout,
    )


def _occupy(server: Server, model: str) -> None:
    """Make a training that ends, and one that waits; others then wait for that one."""
    path = f"/v2/models/{model}/train/"
    for wait in ("false", "true"):
        begun = server.post(path, params={"needed": "x", "wait": wait})
        uuid = begun.json()["uuid"]
        expected = {"running"} if wait == "true" else ENDED

        def reached(uuid: str = uuid, expected: Any = expected) -> bool:
            return server.get(f"{path}{uuid}").json()["status"] in expected

        wait_until(reached, within=ANSWER_SECONDS, what=f"the training {uuid}")


def _cancel_all(server: Server, subject: Subject, headers: Mapping[str, str]) -> None:
    """Cancel what runs or waits, so that nothing is left behind."""
    for model in subject.models:
        for segment in ("train", "jobs"):
            path = f"/v2/models/{model}/{segment}/"
            listed = server.get(path, params={"status": "queued,running"}, headers=headers)
            for record in listed.json() if listed.status_code == 200 else ():
                server.request("DELETE", f"{path}{record['uuid']}", headers=headers)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--subjects", nargs="*", default=list(SUBJECTS), choices=SUBJECTS)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    failed = False
    for name in options.subjects:
        report = check(SUBJECTS[name], examples=options.examples, seed=options.seed)
        print(f"{name:12} {report}", flush=True)
        if not report.is_clean:
            failed = True
            print(report.output, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
