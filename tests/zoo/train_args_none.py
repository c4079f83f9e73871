"""A model that trains without arguments."""


def predict() -> str:
    return "predicted"


def train() -> str:
    return "trained"
