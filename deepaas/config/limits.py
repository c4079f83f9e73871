"""Limits for one client, and for all clients together."""

from __future__ import annotations

from oslo_config import cfg

from deepaas.config.kinds import seconds

LIMITS = [
    cfg.IntOpt(
        "client-max-size",
        metavar="BYTES",
        default=0,
        min=0,
        help="Largest request body in bytes. A larger body gets 413. 0 means no limit.",
    ),
    cfg.IntOpt(
        "client-max-decompressed",
        metavar="BYTES",
        default=256 * 1024 * 1024,
        min=0,
        help="Most bytes of a compressed request body after decompression. A larger body gets "
        "413. 0 means that only --client-max-size applies.",
    ),
    cfg.IntOpt(
        "client-max-json",
        metavar="BYTES",
        default=0,
        min=0,
        help="Largest request body in bytes that is JSON or an urlencoded form, after "
        "decompression. A worker holds such a body in memory. A larger body gets 413. The "
        "limit also applies to all JSON parts of a form together; larger ones get 422. 0 "
        "means no limit.",
    ),
    cfg.IntOpt(
        "client-max-parts",
        metavar="N",
        default=1000,
        min=1,
        help="Most parts of a multipart form. More parts get 413.",
    ),
    cfg.IntOpt(
        "client-max-text",
        metavar="BYTES",
        default=4 * 1024 * 1024,
        min=1,
        help="Most bytes of all text parts of a multipart form together, because they are held "
        "in memory. More bytes get 413. The limit also applies to parts of other types that "
        "are not files for their argument; larger ones get 422. Files are not limited by "
        "it.",
    ),
    cfg.IntOpt(
        "client-max-line",
        metavar="BYTES",
        default=64 * 1024,
        min=1024,
        help="Most bytes of a request line with its query, and of a header. A longer one gets 400.",
    ),
    cfg.IntOpt(
        "client-max-head",
        metavar="BYTES",
        default=64 * 1024,
        min=0,
        help="Most bytes of the head of a request: its request line and all its headers. A "
        "larger head gets 431. 0 means no limit.",
    ),
    cfg.IntOpt(
        "max-heads-memory",
        metavar="BYTES",
        default=64 * 1024 * 1024,
        min=0,
        help="Most bytes that the unfinished heads of all requests take together. If they take "
        "more, the connections whose heads began first are closed. 0 means no limit.",
    ),
    cfg.IntOpt(
        "client-min-rate",
        metavar="BYTES/S",
        default=1024,
        min=0,
        help="Bytes per second that a client must send of a request body, on average over "
        "--client-rate-window. A slower request gets 408. Time in which the server does not "
        "read does not count. 0 means no limit.",
    ),
    seconds(
        "client-rate-window",
        default=30,
        min=0.1,
        help="Seconds over which the average for --client-min-rate is taken.",
    ),
    seconds(
        "receive-timeout",
        default=60,
        help="Seconds that a client may take for the head of a request, and longest pause in "
        "seconds while it sends the body. After that, a connection without a complete head "
        "is closed, and a request without a complete body gets 408. 0 means no limit.",
    ),
    seconds(
        "send-timeout",
        default=60,
        help="Seconds for which a client may read nothing of a response. After that, its "
        "connection is closed. 0 means no limit.",
    ),
    cfg.IntOpt(
        "max-unsent",
        metavar="BYTES",
        default=256 * 1024 * 1024,
        min=0,
        help="Most bytes of responses that the server holds in memory for clients that do not "
        "read them. If it holds more, the connections that have read nothing for the "
        "longest time are closed. 0 means no limit.",
    ),
    cfg.IntOpt(
        "max-connections",
        metavar="N",
        default=0,
        min=0,
        help="Most connections at once. Further clients wait, and idle connections are closed to "
        "make room for them. 0 means as many as the process has descriptors for (ulimit "
        "-n), apart from those that the server needs. The server never accepts more than "
        "that.",
    ),
]
