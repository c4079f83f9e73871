"""Sends the examples that a model declares to the model."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.support import Server


def send_examples(server: Server, model: str) -> list[Any]:
    """Send each example of predict as a client would, and return the responses.

    Everything comes from the server: the examples from its description, and their files.
    """
    path = f"/v2/models/{quote(model, safe='')}"
    paths = server.get("/swagger.json").json()["paths"]
    examples = paths[f"{path}/predict/"]["post"]["x-examples"]
    assert examples
    responses = []
    for example in examples:
        files = {}
        plain = {}
        for name, value in example.items():
            if isinstance(value, dict) and "file" in value:
                content = server.get(f"{path}/examples/{quote(value['file'])}").content
                assert len(content) == value["size"]
                files[name] = (value["file"], content, value["media_type"])
            else:
                plain[name] = value
        body = {"data": plain, "files": files} if files else {"json": plain}
        responses.append(server.predict(model, **body))
    assert [response.status_code for response in responses] == [200] * len(examples)
    return responses
