"""What a model may define. A module with functions of these names serves as well as a class."""

from __future__ import annotations

from typing import Any


class BaseModel:
    """A model. Every method is optional; override what your model can do.

    An instance lives in a worker process of its own, and lives as long as the worker: what `warm`
    puts on `self` is there when `predict` is called. Calls come one at a time.
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
        file or BytesIO. To refuse the input raise `aiohttp.web.HTTPBadRequest(reason="why")`; any
        other exception is answered 500 with its text.
        """
        raise NotImplementedError

    def get_train_args(self) -> dict[str, Any]:
        """The arguments of `train`, as in `get_predict_args`."""
        raise NotImplementedError

    def train(self, **kwargs: Any) -> Any:
        """Train with the validated arguments; what it returns is kept with its record."""
        raise NotImplementedError
