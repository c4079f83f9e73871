"""The second version of the contract between DEEPaaS and a model."""
