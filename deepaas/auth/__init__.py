"""Sign-in: it finds out which client sends a request, and refuses what the client may not do."""

from __future__ import annotations

from deepaas.auth.plugins import Authenticator, Options, RevokingAuthenticator, load
from deepaas.auth.sign_in import SignIn
from deepaas.http.principal import Principal

__all__ = ["Authenticator", "Options", "Principal", "RevokingAuthenticator", "SignIn", "load"]
