"""The Go relay, ``derper``, as a region of the lab: the program is the user's own."""

from pathlib import Path

from integration.lab.config import Relay
from integration.lab.lab import Lab
from integration.lab.process import LabError, Process
from integration.lab.tls import make_certificate
from integration.lab.topology import INTERNET
from integration.lab.waiting import until

REGION = 900
START_TIMEOUT = 15.0  # seconds until it listens


class Derper:
    """One relay.  Make it before the lab, which is told of it by :attr:`relay`.

    Attributes:
        relay: its region.
        process: once started.
    """

    def __init__(self, program: Path) -> None:
        """Raises :class:`LabError` if ``program`` is not there."""
        if not program.is_file():
            msg = f"{program} does not exist"
            raise LabError(msg)
        self._program = program
        self._address = str(INTERNET.ipv4.ip)
        self._certificate = make_certificate([self._address])
        self.relay = Relay(REGION, pin=self._certificate.sha256)
        self.process: Process | None = None

    def start(self, lab: Lab) -> None:
        """Listen beside the lab's other servers; it ends with the lab."""
        home = lab.directory / "derper"
        home.mkdir()
        for suffix, pem in (("crt", self._certificate.leaf), ("key", self._certificate.key)):
            (home / f"{self._address}.{suffix}").write_bytes(pem)
        self.process = Process(
            "derper",
            [
                self._program,
                f"-a={self._address}:{self.relay.listens}",
                f"-hostname={self._address}",
                "-certmode=manual",
                f"-certdir={home}",
                f"-c={home / 'derper.json'}",
                "-http-port=-1",
                "-stun=false",
            ],
            lab.directory / "derper.log",
            namespace=lab.network.internet,
            directory=home,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        )
        lab.adopt(self.process)
        until("derper to listen", self._listens, START_TIMEOUT)

    def _listens(self) -> bool:
        assert self.process is not None
        self.process.check()
        return "serving on" in self.process.tail(50)
