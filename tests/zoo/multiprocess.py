"""Computes its prediction in a child process of `multiprocessing`."""

import multiprocessing
from typing import Any


def _square(number: int, answers: Any) -> None:
    answers.put(number * number)


def predict(**kwargs: Any) -> Any:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_square, args=(7, answers))
    child.start()
    answer = answers.get(timeout=10)
    child.join(10)
    return answer
