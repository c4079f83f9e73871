"""The log."""

from __future__ import annotations

from oslo_config import cfg

LOGGING = [
    cfg.BoolOpt("debug", short="d", default=False, help="Log at level DEBUG."),
    cfg.StrOpt(
        "log-level",
        metavar="LEVEL",
        default="INFO",
        ignore_case=True,
        choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        help="Least level that is logged.",
    ),
    cfg.StrOpt(
        "log-file", metavar="FILE", default="", help="Log to this file instead of standard output."
    ),
    cfg.BoolOpt("use-json", default=False, help="Log one JSON object a line."),
    cfg.IntOpt(
        "log-unknown-arguments",
        metavar="N",
        default=100,
        min=0,
        help="How many names of arguments that a model does not have are logged, for each of its "
        "functions; each name is logged once.",
    ),
    cfg.BoolOpt("access-log", default=True, help="Log every request, at level INFO."),
]
