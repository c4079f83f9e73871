"""The handlers of version 2 of the interface."""
