"""`deepaas check`: loads models as the server would, tries everything, and reports findings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deepaas.checks.findings import Finding, Report

_HELP = """Load models as the server would, try everything, and say what to correct.

MODEL is the name of an installed model, or what deepaas-run takes: path/to/file.py[:attribute] or
module:attribute. Without it, all installed models are checked.

Exit codes: 0 without errors and warnings, 1 with one of them (with --strict, also with a note),
2 if the command cannot be used in this way.
"""


def _seconds(name: str, default: float, text: str) -> Callable[[Any], Any]:
    kind = click.FloatRange(min=0.1, max=604800)
    return click.option(name, type=kind, default=default, show_default=True, help=text)


@click.command(
    "check", help=_HELP, short_help="Try everything in a model, and say what to correct."
)
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--train", is_flag=True, help="Train once, with small arguments; uses new weights.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option("--strict", is_flag=True, help="Exit with 1 for notes, too.")
@_seconds("--timeout", 60.0, "Seconds that a prediction may take.")
@_seconds("--start-timeout", 300.0, "Seconds until a model must be ready.")
@_seconds("--train-timeout", 300.0, "Seconds that the training may take.")
@_seconds("--total-timeout", 1800.0, "Seconds that the whole check may take.")
@click.option(
    "--max-memory",
    type=click.IntRange(min=0),
    default=0,
    metavar="MB",
    help="Warn if a worker uses more memory; 0 means no limit.",
)
@click.option(
    "--max-log",
    type=click.IntRange(min=1, max=10**6),
    default=256,
    show_default=True,
    metavar="MB",
    help="End the check if the log of its server, with what models print, is larger.",
)
def command(
    models: tuple[str, ...],
    train: bool,
    as_json: bool,
    strict: bool,
    timeout: float,
    start_timeout: float,
    train_timeout: float,
    total_timeout: float,
    max_memory: int,
    max_log: int,
) -> None:
    import asyncio

    from deepaas import exact_json
    from deepaas.checks.command import Options, ServerFailedError, run, sources_of
    from deepaas.exceptions import ConfigurationError

    limits = (timeout, start_timeout, train_timeout, total_timeout)
    tell = (lambda _: None) if as_json else _show
    try:
        sources = sources_of(models)
        reports = run(sources, Options(train, *limits, max_memory, max_log), tell)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    except ServerFailedError as error:
        raise click.ClickException(str(error)) from None
    except asyncio.CancelledError:
        click.echo("The check was ended by a signal.", err=True)
        sys.exit(130)
    counts = {name: _count(reports, name) for name in ("error", "warning", "note")}
    if as_json:
        shown = [report.as_dict() for report in reports]
        click.echo(exact_json.dumps({"models": shown, "counts": counts}).decode())
    else:
        click.echo(_conclusion(counts))
    sys.exit(bool(counts["error"] or counts["warning"] or (strict and counts["note"])))


def _count(reports: list[Report], severity: str) -> int:
    return sum(one.severity == severity for report in reports for one in report.findings)


def _conclusion(counts: dict[str, int]) -> str:
    if not any(counts.values()):
        return "Nothing found."
    texts = [_number(number, name) for name, number in counts.items() if number]
    return f"Found {', '.join(texts)}."


def _number(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _show(report: Report) -> None:
    if report.seconds is None:
        click.echo(f"{report.model} ({report.target}): not served")
    else:
        facts = [f"ready in {report.seconds:.2f} s"]
        if report.memory:
            facts += [f"{report.memory / 1e6:.0f} MB", _number(report.threads, "thread")]
        facts.append(_number(report.requests, "request"))
        facts += ["1 training"] if report.trained else []
        click.echo(f"{report.model} ({report.target}): {', '.join(facts)}")
    for finding in report.findings:
        _show_finding(finding)


def _show_finding(finding: Finding) -> None:
    colours = {"error": "red", "warning": "yellow", "note": "cyan"}
    label = click.style(finding.severity, fg=colours[finding.severity])
    where = f"{finding.place}: " if finding.place else ""
    click.echo(f"  {label}: {where}{finding.what}")
    click.echo(f"    why:   {finding.why}")
    click.echo(f"    write: {finding.write}")
