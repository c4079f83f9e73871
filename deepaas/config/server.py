"""The options of the server: addresses, endpoints, and how it stops."""

from __future__ import annotations

from oslo_config import cfg

from deepaas.config.kinds import seconds

SERVER = [
    cfg.HostAddressOpt(
        "listen-ip",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="Address to listen on; 0.0.0.0 means every address.",
    ),
    cfg.PortOpt(
        "listen-port",
        metavar="PORT",
        default=5000,
        help="TCP port to listen on; 0 means any free port.",
    ),
    cfg.StrOpt(
        "base-path",
        metavar="PATH",
        default="",
        help="Path below which everything is served, such as /models/x.",
    ),
    cfg.BoolOpt("predict-endpoint", default=True, help="Offer prediction."),
    cfg.BoolOpt("train-endpoint", default=True, help="Offer training."),
    cfg.BoolOpt(
        "doc-endpoint", default=True, help="Serve the page at /api, where users can try the models."
    ),
    cfg.BoolOpt(
        "debug-endpoint",
        default=False,
        help="Show the output of the server and its workers at /v2/debug/. The output is kept in "
        "memory and can contain anything that a model prints.",
    ),
    cfg.IntOpt(
        "debug-size",
        metavar="BYTES",
        default=256 * 1024,
        min=1024,
        help="Most bytes of output that /v2/debug/ shows. Older output is dropped.",
    ),
    cfg.BoolOpt(
        "admin-endpoint",
        default=False,
        help="Offer POST /v2/models/<name>/reload to everyone who can reach the server, or, with "
        "--auth, to clients with the scope admin.",
    ),
    cfg.MultiStrOpt(
        "allow-origins",
        metavar="ORIGIN",
        default=[],
        help="Origin of a web site, such as https://a.example:8443, whose pages may send "
        "requests to this server and read its responses (CORS). A request that a browser sends for "
        "any other site gets 403, unless its method is GET, HEAD or OPTIONS. May be given several "
        "times.",
    ),
    cfg.MultiStrOpt(
        "allow-hosts",
        metavar="HOST",
        default=[],
        help="A host, or host:port, that requests may have in their Host header; * allows any "
        "host. Requests with another host get 421. Without this option, the server checks "
        "the header only if it listens on a loopback address. localhost and loopback "
        "addresses are always allowed. May be given several times.",
    ),
    cfg.MultiStrOpt(
        "trusted-proxies",
        metavar="ADDRESS",
        default=[],
        help="An IP address, or a network such as 10.0.0.0/8, of a proxy. The server believes the "
        "headers X-Forwarded-Prefix, X-Forwarded-Proto and X-Forwarded-Host of these proxies only: "
        "descriptions and links then have the public address, and the checks of Host and Origin "
        "use it. The proxy must replace these headers if its clients send them. May be given "
        "several times.",
    ),
    cfg.MultiStrOpt(
        "middleware",
        metavar="NAME",
        default=[],
        help="A plug-in, an entry point in the group deepaas.middleware, whose code runs around "
        "the handlers of all requests that the sign-in has let pass. May be given several times; "
        "the first is the outermost.",
    ),
    cfg.MultiStrOpt(
        "routes",
        metavar="NAME",
        default=[],
        help="A plug-in, an entry point in the group deepaas.routes, whose routes the server "
        "offers, too. May be given several times.",
    ),
    cfg.BoolOpt(
        "fast-path",
        default=True,
        help="Predict without parsing the head of a request if an earlier request had the same "
        "head. The responses are the same, but small requests take longer without it.",
    ),
    cfg.BoolOpt(
        "server-timing",
        default=True,
        help="Say in the header Server-Timing of each response to a prediction how long the "
        "request waited and how long its steps took.",
    ),
    cfg.StrOpt(
        "upload-dir",
        metavar="DIRECTORY",
        default="",
        help="Directory for uploads while their requests are processed. The default is the "
        "system's temporary directory.",
    ),
    seconds(
        "drain-timeout",
        default=30,
        help="Seconds that requests in progress get to finish when the server stops.",
    ),
    seconds(
        "stop-timeout",
        default=5,
        help="Seconds that idle workers get to exit when the server stops. After that, they are "
        "killed.",
    ),
]
