"""The interface of a model. A module with functions of these names works as well as a class."""

from __future__ import annotations

from typing import Any


class BaseModel:
    """A model. Every method is optional; override the ones that your model supports.

    Each worker process has one instance, which exists as long as the worker: attributes that `warm`
    sets on `self` are available in `predict`. Unless `predict` is `async def`, calls run one at a
    time.
    """

    schema: Any = None
    """The schema of the value that `predict` returns: a dictionary of marshmallow fields or a
    Schema class.

    Without a schema, the response is `{"status": "OK", "predictions": <returned value>}`. With a
    schema, the returned value is validated against it and is itself the response.
    """

    def get_metadata(self) -> dict[str, Any]:
        """Describe the model: `name`, `description`, `author`, `license`, `version` and any other
        keys.

        The values can be anything that JSON can represent. They are shown at `/v2/models/<name>/`.
        """
        raise NotImplementedError

    def warm(self) -> None:
        """Prepare to predict: load weights, fill caches. Called once in every worker."""
        raise NotImplementedError

    def get_predict_args(self) -> dict[str, Any]:
        """Return the arguments of `predict`: a dictionary from name to webargs (marshmallow) field.

        A field with `metadata={"type": "file", "location": "form"}` accepts a file, which `predict`
        receives as an `UploadedFile`. A `Str` named `accept` with a `OneOf` validator lists the
        media types that `predict` can return. Without this function, the type hints of `predict`
        give its arguments.
        """
        raise NotImplementedError

    def predict(self, **kwargs: Any) -> Any:
        """Predict from the validated arguments.

        Returns anything that JSON can represent, including numpy values. For another media type,
        returns bytes, str, an open file or BytesIO. If it is a generator, each item is sent when it
        is yielded. If it is `async def`, calls run concurrently, see `max_concurrency`. To reject
        the input, raise `aiohttp.web.HTTPBadRequest(reason="why")`; any other exception gives a
        response with status 500 and the text of the exception.
        """
        raise NotImplementedError

    max_batch_size: int | None = None
    """Maximum number of calls in one batch of `predict_batch`; the default is 32."""

    max_batch_wait_ms: int | None = None
    """Milliseconds that a batch that is not full waits for more calls; the default is 5."""

    max_concurrency: int | None = None
    """Maximum number of concurrent calls of an `async def predict` in a worker; the default is
    64."""

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        """Predict for several calls at once: receive the arguments of each, return the result of
        each.

        If it is defined, it is used instead of `predict`. It must return one result for each call,
        in order. A result that is an exception fails only that call. If `predict_batch` raises, it
        is called again for each call separately, so that only the faulty call fails.
        """
        raise NotImplementedError

    def get_train_args(self) -> dict[str, Any]:
        """Return the arguments of `train`, in the same form as `get_predict_args`.

        Without this function, the type hints of `train` give its arguments.
        """
        raise NotImplementedError

    def train(self, **kwargs: Any) -> Any:
        """Train with the validated arguments, in a separate process in which `warm` has run.

        The returned value is stored in the record of the training. If `train` raises, the training
        ends with status `error` and the exception as its message. In `deepaas.training`, `report`
        records progress and metrics, and `directory` returns the directory for files.
        """
        raise NotImplementedError
