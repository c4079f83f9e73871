"""The command `deepaas-run`."""
