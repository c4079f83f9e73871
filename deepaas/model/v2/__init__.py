"""Version 2 of the interface between DEEPaaS and a model."""
