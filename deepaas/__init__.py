"""A REST interface in front of a trained model."""

__version__ = "2.7.0"
