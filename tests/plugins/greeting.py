"""An endpoint that greets by name."""

from typing import Any

from aiohttp import web

from deepaas.http.plugins import Options
from deepaas.http.request import Request
from deepaas.http.routing import Access, Route


async def greet(request: Request, name: str) -> web.Response:
    client = request.principal.name if request.principal else None
    return web.json_response({"greeting": f"Hello {name}", "client": client})


def describe(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the operation in the form of Swagger 2.0; /openapi.json has it in OpenAPI 3.1."""
    return {
        "tags": ["greetings"],
        "summary": "Greet somebody",
        "parameters": [{"in": "path", "name": "name", "type": "string", "required": True}],
        "responses": {"200": {"description": "The greeting", "schema": {"type": "object"}}},
    }


def make(options: Options) -> list[Route]:
    return [Route("GET", "/greetings/{name}", greet, Access.READ, describe)]
