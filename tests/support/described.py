"""Requests made of the published description, and answers held against it."""

import http.client
import socket
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from tailnet.agent.localapi.routes import published
from tailnet.agent.localapi.schema.basics import BASE, HOST

STREAMS = frozenset({"watch-ipn-bus", "dial", "debug-capture", "logtap", "debug-portmap"})
PATIENCE = 20.0  # seconds for one answer


class _Connection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__(HOST, timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """To the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


class _Pool(HTTPConnectionPool):
    def __init__(self, path: Path) -> None:
        super().__init__(HOST)
        self._path = path

    def _new_conn(self) -> Any:  # noqa: ANN401 - urllib3's own type
        return _Connection(self._path)


class _Adapter(HTTPAdapter):
    def __init__(self, path: Path) -> None:
        self._pool = _Pool(path)
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401 - as above
        """Always the socket."""
        return self._pool


class Described:
    """A daemon and its description."""

    def __init__(self, path: Path) -> None:
        self._schema = schemathesis.openapi.from_dict(published())
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("http://", _Adapter(path))

    def cases(self, name: str, method: str) -> st.SearchStrategy[Any]:
        """Requests of one route, sensible and not."""
        return self._schema[BASE + name][method].as_strategy()

    def check(self, case: Any) -> None:  # noqa: ANN401 - schemathesis' own type
        """Ask, and hold the answer against the description.

        Raises:
            AssertionError: it differs.
        """
        given = case.as_transport_kwargs(base_url=f"http://{HOST}")
        try:
            answer = self._session.request(**given, timeout=PATIENCE)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader):
            return  # nothing that could be sent
        except (http.client.HTTPException, UnicodeError):
            return
        # What a text must look like (an address, a node's name) is not described.
        excluded = [positive_data_acceptance]
        if str(answer.status_code) in case.operation.definition.raw["responses"]:
            excluded.append(not_a_server_error)  # upstream answers so, and it is said
        case.validate_response(answer, excluded_checks=excluded)
