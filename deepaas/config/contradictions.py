"""Options that have no effect, or not the expected one, because of other options."""

from __future__ import annotations

from oslo_config import cfg


def contradictions(conf: cfg.ConfigOpts) -> list[str]:
    """Return a warning for each pair of options that contradict each other."""
    level = conf.log_level.upper()
    found = {
        f"--debug and --log-level {level} contradict each other; the level is DEBUG": (
            conf.debug and level not in ("DEBUG", "INFO")
        ),
        "--nopredict-endpoint and --notrain-endpoint together leave nothing to call": not (
            conf.predict_endpoint or conf.train_endpoint
        ),
        "--nopublic-health has no effect without --auth": (
            not conf.public_health and not conf.auth
        ),
        "--metrics-port has no effect with --nometrics": (
            conf.metrics_port != 0 and conf.metrics is False
        ),
        "--train-exclusive has no effect with --notrain-endpoint": (
            conf.train_exclusive and not conf.train_endpoint
        ),
        f"--client-max-json {conf.client_max_json} has no effect, as --client-max-size "
        f"{conf.client_max_size} is less": 0 < conf.client_max_size < conf.client_max_json,
        f"--client-max-line {conf.client_max_line} has no effect, as --client-max-head "
        f"{conf.client_max_head} is less": 0 < conf.client_max_head < conf.client_max_line,
    }
    return [message for message, holds in found.items() if holds]
