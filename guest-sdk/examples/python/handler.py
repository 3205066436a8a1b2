"""Answers every request with the pod that gave it, the path, and how many requests this instance has seen."""

import os
import sys

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam

seen = 0


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        global seen
        seen += 1
        path = request.path_with_query()
        sys.stdout.write(f"GET {path}\n")
        text = f"hello from {os.environ['HOSTNAME']}, in Python: {path}, request {seen}\n"
        response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(text.encode())
        OutgoingBody.finish(body, None)
