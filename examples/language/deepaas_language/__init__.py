"""A model that tells which language a text is written in, served by DEEPaaS."""
