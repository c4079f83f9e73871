"""The options of the sign-in."""

from __future__ import annotations

from oslo_config import cfg

SIGN_IN = [
    cfg.StrOpt(
        "auth",
        metavar="NAME",
        default="",
        help="Require a sign-in. The name is that of a plug-in, an entry point in the group "
        "deepaas.auth; tokens is always installed. Without this option, everybody who can connect "
        "to the server may use it.",
    ),
    cfg.StrOpt(
        "token-file",
        metavar="FILE",
        default="",
        help="File with the tokens for --auth tokens, which `python -m deepaas.auth.make` makes. "
        "It is read again when it changes. DEEPAAS_TOKENS may have further lines of such a file.",
    ),
    cfg.BoolOpt(
        "public-health",
        default=True,
        help="With --auth, answer /v2/health/live and /v2/health/ready without a sign-in. Then "
        "the response only says whether the server is ready.",
    ),
]
