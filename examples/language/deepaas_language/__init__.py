"""A model that recognises the language of a text, served by DEEPaaS."""
