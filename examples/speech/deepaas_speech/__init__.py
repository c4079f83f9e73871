"""A model that finds the segments of speech in a recording, served by DEEPaaS."""
