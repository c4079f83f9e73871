"""Is trained without any arguments."""


def predict() -> str:
    return "predicted"


def train() -> str:
    return "trained"
