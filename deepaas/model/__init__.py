"""Find, load and call models, and process their arguments and results."""
