"""What a model may define. A module with functions of these names serves as well as a class."""

from __future__ import annotations

from typing import Any


class BaseModel:
    """A model. Every method is optional; override what your model can do.

    An instance lives in a worker process of its own, and lives as long as the worker: what `warm`
    puts on `self` is there when `predict` is called. Calls come one at a time, unless `predict` is
    `async def`.
    """

    schema: Any = None
    """The form of what `predict` returns: a dictionary of marshmallow fields or a Schema class.

    Without one, the answer is `{"status": "OK", "predictions": <what predict returned>}`; with one,
    what `predict` returned is checked against it and is the answer itself.
    """

    def get_metadata(self) -> dict[str, Any]:
        """Describe the model: `name`, `description`, `author`, `license`, `version` and any other.

        Anything JSON can hold; shown at `/v2/models/<name>/`.
        """
        raise NotImplementedError

    def warm(self) -> None:
        """Prepare to predict: load weights, fill caches. Called once in every worker."""
        raise NotImplementedError

    def get_predict_args(self) -> dict[str, Any]:
        """The arguments of `predict`: name -> webargs (marshmallow) field.

        A field with `metadata={"type": "file", "location": "form"}` takes a file, which `predict`
        gets as an `UploadedFile`. A `Str` named `accept` whose validator is `OneOf` names the
        media types that `predict` can return.
        """
        raise NotImplementedError

    def predict(self, **kwargs: Any) -> Any:
        """Predict from the validated arguments.

        Returns anything JSON can hold (numpy included); for another media type bytes, str, an open
        file or BytesIO. What it yields, if it is a generator, is sent as it comes. As `async def`
        it is called many times at once, see `max_concurrency`. To refuse the input raise
        `aiohttp.web.HTTPBadRequest(reason="why")`; any other exception is answered 500 with its
        text.
        """
        raise NotImplementedError

    max_batch_size: int | None = None
    """How many calls `predict_batch` takes at once at the most; 32 unless set."""

    max_batch_wait_ms: int | None = None
    """Milliseconds that a batch waits for more calls while it is not full; 5 unless set."""

    max_concurrency: int | None = None
    """How many calls of an `async def predict` run in a worker at once; 64 unless set."""

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        """Predict for several calls at once: the arguments of each, the result of each.

        When this is defined it is used in place of `predict`. The results must be as many as the
        arguments, in their order; one that is an exception fails its own call alone. If this
        raises, it is called again for each call by itself, so that only the guilty one fails.
        """
        raise NotImplementedError

    def get_train_args(self) -> dict[str, Any]:
        """The arguments of `train`, as in `get_predict_args`."""
        raise NotImplementedError

    def train(self, **kwargs: Any) -> Any:
        """Train with the validated arguments, in a process of its own, which was warmed.

        What it returns is kept with its record; what it raises is the reason why that is an error.
        `deepaas.training` has `report` for progress and metrics, and `directory` for files.
        """
        raise NotImplementedError
