"""The parts of `deepaas call`. Only that sub-command imports them, when it runs."""
