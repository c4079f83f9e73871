"""A model that tells which digit a small picture shows, served by DEEPaaS."""
