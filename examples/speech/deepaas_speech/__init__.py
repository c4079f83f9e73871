"""A model that tells when somebody speaks in a recording, served by DEEPaaS."""
