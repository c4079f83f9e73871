"""The options of the log."""

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
        help="Lowest level that is logged.",
    ),
    cfg.StrOpt(
        "log-file", metavar="FILE", default="", help="Log to this file instead of standard output."
    ),
    cfg.BoolOpt("use-json", default=False, help="Log one JSON object per line."),
    cfg.IntOpt(
        "log-unknown-arguments",
        metavar="N",
        default=100,
        min=0,
        help="How many names of unknown arguments are logged for each function of a model. Each "
        "name is logged once.",
    ),
    cfg.BoolOpt("access-log", default=True, help="Log every request at level INFO."),
]
