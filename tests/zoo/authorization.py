"""Returns the value of the header Authorization, which is one of its arguments."""

from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {
        "authorization": fields.Str(
            missing="none", data_key="Authorization", metadata={"location": "headers"}
        )
    }


def predict(**kwargs: Any) -> Any:
    return kwargs["authorization"]
