"""The LocalAPI's description for machines, made of the contract and the routes' permissions.

Source: OpenAPI Specification 3.1.
"""

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any

import msgspec

from tailnet.agent.localapi.contract.operation import JSON, TEXT, Operation, Query
from tailnet.agent.localapi.contract.table import CONTRACT
from tailnet.agent.localapi.schema.basics import BASE, HOST, VERSION

Tree = dict[str, Any]
REFUSALS = {
    400: "bad request: the text says why",
    403: "the caller may not: the text says what would help",
    404: "there is no such thing",
    500: "it failed: the text says why",
    501: "this daemon does not have that",
    502: "the control server refused or was not reached: the text says why",
    503: "not now",
    504: "it took too long",
}


def describe(needs: Mapping[tuple[str, str], str]) -> Tree:
    """The whole description.

    Args:
        needs: what a caller must be allowed, ``read`` or ``write``, by name and method.
    """
    types = sorted(
        {
            kind
            for methods in CONTRACT.values()
            for operation in methods.values()
            for kind in (operation.answer, operation.body)
            if kind not in (None, bytes)
        },
        key=repr,
    )
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    for shape in components.values():  # before 0.23, msgspec leaves the indentation of the source
        if "description" in shape:
            shape["description"] = cleandoc(shape["description"])
    known = dict(zip(types, schemas, strict=True))
    paths = {
        BASE + name: {
            "parameters": [_in_path()] if "{id}" in name else [],
            **{
                method.lower(): _operation(name, method, operation, known, needs[name, method])
                for method, operation in methods.items()
            },
        }
        for name, methods in CONTRACT.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tailnetd LocalAPI",
            "version": VERSION,
            "description": (
                "HTTP/1.1 over a unix socket. Everybody who can open it may read; root, the "
                f"daemon's own user and the operator may write. Host must be empty or {HOST}."
            ),
        },
        "servers": [{"url": f"http://{HOST}"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(
    name: str, method: str, about: Operation, known: Mapping[Any, Tree], needs: str
) -> Tree:
    responses: Tree = {str(about.status): _good(about, known)}
    for status in (*about.refuses, 403, 504):
        responses[str(status)] = _refusal(status)
    tree: Tree = {
        "operationId": f"{method.lower()} {name}".replace("/", " ").strip().replace(" ", "-"),
        "summary": about.about,
        "x-needs": needs,
        "parameters": [_parameter(query) for query in about.query],
        "responses": responses,
    }
    if about.body is not None:
        content = {JSON: {"schema": known[about.body]}}
        tree["requestBody"] = {"required": True, "content": content}
    return tree


def _good(about: Operation, known: Mapping[Any, Tree]) -> Tree:
    tree: Tree = {"description": "done" if about.answer is None else "the answer"}
    if about.answer is not None:
        shape = {} if about.answer is bytes else known[about.answer]
        tree["content"] = {about.media: {"schema": shape}}
        if about.or_text:
            tree["content"][TEXT] = {"schema": {"type": "string"}}
    return tree


def _refusal(status: int) -> Tree:
    problem = {"$ref": "#/components/schemas/Problem"}
    content = {TEXT: {"schema": {"type": "string"}}, JSON: {"schema": problem}}
    return {"description": REFUSALS[status], "content": content}


def _parameter(query: Query) -> Tree:
    shape: Tree = {"type": query.kind}
    if not isinstance(query.kind, str):
        shape = {"type": "string", "enum": list(query.kind)}
    elif query.kind == "integer":
        shape["minimum"] = 0
        if query.most is not None:
            shape["maximum"] = query.most
    return {
        "name": query.name,
        "in": "query",
        "required": query.needed,
        "description": query.about,
        "schema": shape,
    }


def _in_path() -> Tree:
    return {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
