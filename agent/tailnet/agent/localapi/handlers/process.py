"""The daemon as a process: its log, its tasks, its end."""

from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Request, Response, parse_object, problem, text
from tailnet.agent.localapi.interface import Backend

MAX_LINES = 100
MAX_LINE = 1000  # characters
MAX_SECONDS = 24 * 3600


async def shutdown(backend: Backend, _: Request) -> Response:
    """``POST shutdown``: end the daemon as a signal would."""
    backend.process.shutdown()
    return Response(200)


async def tasks(backend: Backend, _: Request) -> Response:
    """``GET goroutines``: what every task waits for, and every thread does."""
    return text(200, backend.process.tasks())


async def debug_log(backend: Backend, request: Request) -> Response:
    """``POST debug-log``: ``{Lines, Prefix}`` of another program, into the daemon's log."""
    tree = parse_object(request.body)
    lines, prefix = tree.get("Lines") or [], tree.get("Prefix") or ""
    if not isinstance(lines, list) or not isinstance(prefix, str):
        return text(400, "Lines is a list of texts, Prefix a text")
    for line in lines[:MAX_LINES]:
        plain = "".join(c for c in f"{prefix}: {line}"[:MAX_LINE] if c.isprintable())
        backend.process.note(plain)
    return Response(204)


async def bugreport(backend: Backend, request: Request) -> Response:
    """``POST bugreport``: a marker, in the log too, with a ``note`` and a diagnosis if wanted."""
    note = "".join(c for c in request.query.get("note", "")[:MAX_LINE] if c.isprintable())
    diagnose = request.query.get("diagnose", "") == "true"
    return text(200, backend.bugreport(note, diagnose=diagnose))


async def component_logging(backend: Backend, request: Request) -> Response:
    """``POST component-debug-logging``: a ``component`` is logged in detail for ``secs``."""
    component, digits = request.query.get("component", ""), request.query.get("secs", "") or "0"
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 6:
        return text(400, "invalid 'secs' parameter")
    try:
        backend.process.log_in_detail(component, min(int(digits), MAX_SECONDS))
    except UserError as error:
        return problem(200, str(error))
    return problem(200, "")
