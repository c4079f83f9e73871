"""The baseline: one aiohttp handler on uvloop that calls the model in the same process.

It is a good solution for exactly one model. It has none of the tasks of a server for any model: no
validation, no queue, no isolation, no description.
"""

import argparse
from collections.abc import Awaitable, Callable

import orjson
import uvloop
from aiohttp import web

from benchmarks import functions

Handler = Callable[[web.Request], Awaitable[web.Response]]


def answer(predictions: object) -> web.Response:
    body = orjson.dumps({"status": "OK", "predictions": predictions})
    return web.Response(body=body, content_type="application/json")


async def small(request: web.Request) -> web.Response:
    arguments = orjson.loads(await request.read())
    return answer(functions.add(arguments["a"], arguments["b"]))


async def floats(request: web.Request) -> web.Response:
    arguments = orjson.loads(await request.read())
    return answer(functions.total(arguments["values"]))


async def slow(request: web.Request) -> web.Response:
    arguments = orjson.loads(await request.read())
    return answer(functions.add_slowly(arguments["a"], arguments["b"]))


async def upload(request: web.Request) -> web.Response:
    field = (await request.post())["data"]
    if not isinstance(field, web.FileField):
        raise web.HTTPUnprocessableEntity(reason="data is not a file")
    with field.file as file:
        return answer(functions.size(file))


HANDLERS: dict[str, Handler] = {
    "small": small,
    "floats": floats,
    "upload": upload,
    "nobatch": slow,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--case", choices=sorted(HANDLERS), required=True)
    options = parser.parse_args()
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_post("/predict", HANDLERS[options.case])
    web.run_app(
        app,
        host="127.0.0.1",
        port=options.port,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
