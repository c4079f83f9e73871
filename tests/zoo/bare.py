"""A model without any of the functions that a model may have."""
