"""The options of the metrics."""

from __future__ import annotations

from oslo_config import cfg

from deepaas.config.kinds import Bounds

METRICS = [
    cfg.BoolOpt(
        "metrics",
        sample_default="on if prometheus-client is installed",
        help="Count requests, workers and jobs, and serve the counts at /metrics in the text "
        "format of Prometheus. This needs prometheus-client: pip install 'deepaas[metrics]'. "
        "Without that package and this option, there are no metrics.",
    ),
    cfg.PortOpt(
        "metrics-port",
        metavar="PORT",
        default=0,
        help="TCP port that serves the metrics, without a sign-in, and nothing else. Then the main "
        "port does not serve them. 0 means that the main port serves them.",
    ),
    cfg.HostAddressOpt(
        "metrics-ip",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="Address to listen on with --metrics-port; 0.0.0.0 means every address.",
    ),
    cfg.Opt(
        "metrics-buckets",
        type=Bounds(),
        metavar="SECONDS,...",
        default="0.00025,0.0005,0.001,0.0025,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10,30,60",
        help="Upper bounds of the buckets in which requests and predictions are counted by their "
        "duration, in seconds, separated by commas; at most 50.",
    ),
]
