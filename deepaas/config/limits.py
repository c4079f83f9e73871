"""What one client, and all clients together, may take of the server."""

from __future__ import annotations

from oslo_config import cfg

from deepaas.config.kinds import seconds

LIMITS = [
    cfg.IntOpt(
        "client-max-size",
        metavar="BYTES",
        default=0,
        min=0,
        help="Largest request body in bytes; a larger one is answered 413. 0 is no limit.",
    ),
    cfg.IntOpt(
        "client-max-decompressed",
        metavar="BYTES",
        default=256 * 1024 * 1024,
        min=0,
        help="Most bytes that a compressed request body may become; a larger one is answered 413. "
        "0 is no limit but --client-max-size.",
    ),
    cfg.IntOpt(
        "client-max-json",
        metavar="BYTES",
        default=0,
        min=0,
        help="Largest request body in bytes that is JSON or an urlencoded form, after it is "
        "decompressed; a worker holds it in memory. A larger one is answered 413. The same holds "
        "for the parts of a form that are JSON, together (422). 0 is no limit.",
    ),
    cfg.IntOpt(
        "client-max-parts",
        metavar="N",
        default=1000,
        min=1,
        help="Most parts a multipart form may have; more are answered 413.",
    ),
    cfg.IntOpt(
        "client-max-text",
        metavar="BYTES",
        default=4 * 1024 * 1024,
        min=1,
        help="Most bytes that the texts of a multipart form may have together, as they are held in "
        "memory; more are answered 413. The same holds for its parts of other types that are no "
        "files for their argument (422). Files are not limited by it.",
    ),
    cfg.IntOpt(
        "client-max-line",
        metavar="BYTES",
        default=64 * 1024,
        min=1024,
        help="Most bytes of a request line with its query, and of a header; more are answered 400.",
    ),
    cfg.IntOpt(
        "client-max-head",
        metavar="BYTES",
        default=64 * 1024,
        min=0,
        help="Most bytes of the head of a request: its request line and all its headers; more are "
        "answered 431. 0 is no limit.",
    ),
    cfg.IntOpt(
        "max-heads-memory",
        metavar="BYTES",
        default=64 * 1024 * 1024,
        min=0,
        help="Most bytes that the heads of requests take together while they arrive; beyond it the "
        "connections whose heads began first are closed. 0 is no limit.",
    ),
    cfg.IntOpt(
        "client-min-rate",
        metavar="BYTES/S",
        default=1024,
        min=0,
        help="Bytes per second that a client has to send of a request body, on average over "
        "--client-rate-window; a slower one is answered 408. Time in which the server does not "
        "read does not count. 0 is no limit.",
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
        help="Seconds that a client may take for the head of a request, and that it may let pass "
        "without sending more of the body; then it is answered 408, or its connection is closed if "
        "the head has not come. 0 is no limit.",
    ),
    seconds(
        "send-timeout",
        default=60,
        help="Seconds that a client may let pass without taking more of an answer; then its "
        "connection is cut. 0 is no limit.",
    ),
    cfg.IntOpt(
        "max-unsent",
        metavar="BYTES",
        default=256 * 1024 * 1024,
        min=0,
        help="Most bytes of answers that the server holds in memory for clients that do not read "
        "them; beyond it the connections that have taken nothing for longest are cut. 0 is no "
        "limit.",
    ),
    cfg.IntOpt(
        "max-connections",
        metavar="N",
        default=0,
        min=0,
        help="Most connections at once. Further clients wait, and idle connections are closed for "
        "them. 0 is as many as this process has descriptors for (ulimit -n), less those that it "
        "needs itself; more than that are never accepted.",
    ),
]
