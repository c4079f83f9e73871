"""What a model is: how it is found, called, and how its arguments and results are treated."""
