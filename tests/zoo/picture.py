"""Returns a picture of 2 by 3 pixels."""

import base64
from typing import Any

from webargs import fields, validate

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAEElEQVR4nGP4z8AARAwoFABE0AX7pM/egAAAAABJ"
    "RU5ErkJggg=="
)


def get_predict_args() -> dict[str, Any]:
    return {"accept": fields.Str(validate=validate.OneOf(["image/png"]))}


def predict(**kwargs: Any) -> bytes:
    return PNG
