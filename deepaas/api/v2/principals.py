"""Logs what clients do that have signed in."""

from __future__ import annotations

import logging

from deepaas.http.request import Request
from deepaas.serving.pool import Pool

logger = logging.getLogger("deepaas.api")


def log_principal(request: Request, action: str, pool: Pool, uuid: str = "") -> None:
    """Log which principal asks for an action. Without a sign-in, log nothing."""
    if request.principal is not None:
        record = f" ({uuid})" if uuid else ""
        logger.info(
            "%s asks for: %s of model %s%s (request %s)",
            *(request.principal.name, action, pool.name, record, request.request_id),
        )
