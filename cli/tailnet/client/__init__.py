"""A typed client of tailnetd's LocalAPI, for programs: ``tnet`` itself is one.

::

    from tailnet.client import Client, questions

    client = Client()
    print(client.ask(questions.status()).backend_state)
    print(client.ask(questions.whois("100.64.0.2")).node.name)

    from tailnet.client.aio import AsyncClient

    async with asyncio.timeout(5):
        status = await AsyncClient().ask(questions.status())

Every question is a value with the type of its answer; both clients ask the same ones.
"""

from tailnet.client import questions
from tailnet.client.errors import ClientError, NotRunning, Refused, TimedOut
from tailnet.client.sync import Client, Watch
from tailnet.client.trouble import find_socket

__all__ = [
    "Client",
    "ClientError",
    "NotRunning",
    "Refused",
    "TimedOut",
    "Watch",
    "find_socket",
    "questions",
]
