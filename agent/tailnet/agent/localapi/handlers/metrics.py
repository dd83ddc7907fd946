"""What is counted, as Prometheus text."""

from tailnet.agent.localapi.exchange import Request, Response
from tailnet.agent.localapi.interface import Backend
from tailnet.agent.metrics.text import CONTENT_TYPE


async def user_metrics(backend: Backend, _: Request) -> Response:
    """``GET usermetrics``."""
    return Response(200, (await backend.metrics.user()).encode(), CONTENT_TYPE)


async def metrics(backend: Backend, _: Request) -> Response:
    """``GET metrics``."""
    return Response(200, (await backend.metrics.internal()).encode(), CONTENT_TYPE)
