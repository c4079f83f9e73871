"""Has none of the functions a model may have."""
