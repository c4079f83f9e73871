"""Returns the media type that it was asked for; its `accept` has several choices."""

from typing import Any

from webargs import fields, validate


def get_predict_args() -> dict[str, Any]:
    return {
        "accept": fields.Str(
            description="Media type of the answer.",
            missing="application/pdf",
            validate=validate.OneOf(
                ["application/json", "image/png", "image/jpeg", "application/pdf"]
            ),
        ),
        "text": fields.Str(),
    }


def predict(**kwargs: Any) -> Any:
    return f"accept={kwargs.get('accept')!r}"
