"""Classes whose `get_metadata` raises, prints, or returns something else than a dictionary."""

import os
import sys
from typing import Any


class Predicting:
    def predict(self, **kwargs: Any) -> Any:
        return "predicted"


class Raises(Predicting):
    """Has a docstring, and metadata that cannot be had."""

    def get_metadata(self) -> Any:
        raise RuntimeError("rclone is\nnot configured")


class Exits(Predicting):
    def get_metadata(self) -> Any:
        sys.exit("no metadata today")


class Interrupts(Predicting):
    def get_metadata(self) -> Any:
        raise KeyboardInterrupt


class ReturnsNone(Predicting):
    def get_metadata(self) -> Any:
        return None


class ReturnsPairs(Predicting):
    def get_metadata(self) -> Any:
        return [("name", "pairs")]


class WantsArguments(Predicting):
    def get_metadata(self, name: str) -> Any:
        return {"name": name}


class Unspeakable(Exception):
    def __str__(self) -> str:
        sys.exit("while the text was made")


class RaisesUnspeakable(Predicting):
    def get_metadata(self) -> Any:
        raise Unspeakable


class Unprintable:
    def __str__(self) -> str:
        sys.exit("while the value was shown")


class HoldsUnprintable(Predicting):
    def get_metadata(self) -> Any:
        return {"value": Unprintable()}


class Forks(Predicting):
    def get_metadata(self) -> Any:
        if os.fork() == 0:
            raise RuntimeError("this is the child")
        return {"name": "parent"}


class Prints(Predicting):
    def get_metadata(self) -> Any:
        print("some words from get_metadata")
        return {"name": "printed"}


class ClosesOutput(Predicting):
    def get_metadata(self) -> Any:
        sys.stdout.close()
        os.close(1)
        return {"name": "closed"}

    def predict(self, **kwargs: Any) -> Any:
        print("some words from predict")
        return "predicted"
