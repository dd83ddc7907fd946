"""A whole lab: network, servers, hosts; what the demo and the tests have in common."""

import contextlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from integration.lab.admin import Admin
from integration.lab.config import AUTH_KEY, Relay, ServersConfig
from integration.lab.host import UP_TIMEOUT, Host
from integration.lab.net import Network, require_namespaces
from integration.lab.process import LabError, Process
from integration.lab.residue import Claim, sweep, undisturbed
from integration.lab.topology import Topology

SERVERS_TIMEOUT = 15.0  # seconds until the servers are ready
ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Lab:
    """One lab, from :meth:`start` to :meth:`close`.

    ``close`` is right at any time, also after a ``start`` that failed or was interrupted; it may be
    called twice.

    Attributes:
        topology: which hosts there are.
        relays: DERP regions.
        web: relays serve port 80 as well.
        pinned: relays' certificates are pinned; else hosts trust who signed them, as most do.
        hosts: by name, once started.
        flags: of every daemon that ``join`` starts.
    """

    topology: Topology
    relays: tuple[Relay, ...] = (Relay(900),)
    flags: tuple[str, ...] = ()
    web: bool = False
    pinned: bool = True
    hosts: dict[str, Host] = field(default_factory=dict)
    _claim: Claim | None = None
    _network: Network | None = None
    _servers: list[Process] = field(default_factory=list)
    _adopted: list[Process] = field(default_factory=list)

    def start(self) -> None:
        """Build the network and start the servers.

        Raises:
            LabError: not possible; the text says why.
        """
        require_namespaces()
        sweep()
        with undisturbed():  # an interruption between the two would leave a directory of nobody's
            self._claim = Claim()
        self._network = Network(self.topology, self._claim.tag)
        self._network.build()
        config = ServersConfig(
            address=str(self.topology.internet.ipv4.ip),
            directory=str(self.directory / "servers"),
            relays=self.relays,
            web=self.web,
            pinned=self.pinned,
            ipv6=str(self.topology.internet.ipv6.ip) if self._has_six else "",
        )
        for spec in self.topology.hosts:
            self.hosts[spec.name] = Host(
                spec.name,
                self._network.namespace(spec.name),
                spec.ipv4.ip,
                self.directory / spec.name,
                config.login_server,
            )
            if not self.pinned:
                self.hosts[spec.name].variables["SSL_CERT_FILE"] = str(config.authority)
        self._start_servers(config)

    @property
    def _has_six(self) -> bool:
        """IPv6 is more than a network between neighbours."""
        return any(router.ipv6 is not None for router in self.topology.routers)

    def start_another_tailnet(self, domain: str) -> str:
        """Start control, relay and STUN of one more tailnet beside the first; its login server."""
        number = len(self._servers)
        config = ServersConfig(
            address=str(self.topology.internet.ipv4.ip),
            directory=str(self.directory / f"servers{number}"),
            relays=(Relay(900 + 10 * number),),
            control_port=8080 + number,
            stun_port=3478 + number,
            domain=domain,
        )
        self._start_servers(config)
        return config.login_server

    def _start_servers(self, config: ServersConfig) -> None:
        directory = Path(config.directory)
        directory.mkdir()
        path = directory.with_suffix(".json")
        path.write_text(config.to_json())
        servers = Process(
            f"the servers of {config.domain}",
            [sys.executable, "-m", "integration.lab.servers", path],
            directory.with_suffix(".log"),
            namespace=self.network.internet,
            directory=ROOT,
            announces=True,
        )
        self._servers.append(servers)
        if (said := servers.announcement(SERVERS_TIMEOUT)) != "ready":
            msg = f"the servers said {said!r}"
            raise LabError(msg)

    def adopt(self, program: Process) -> None:
        """A program that belongs to no host; it ends with the lab."""
        self._adopted.append(program)

    def close(self) -> None:
        """Remove everything."""
        for host in self.hosts.values():
            host.forget()
        if self._claim is not None:
            self._claim.release()
        for program in (*self._servers, *self._adopted):
            program.kill()  # collects what is already dead
        self._servers.clear()
        self._adopted.clear()

    @property
    def network(self) -> Network:
        """The kernel's side."""
        if self._network is None:
            msg = "the lab is not started"
            raise LabError(msg)
        return self._network

    @property
    def directory(self) -> Path:
        """State, sockets and logs of everything."""
        if self._claim is None:
            msg = "the lab is not started"
            raise LabError(msg)
        return self._claim.directory

    @property
    def admin(self) -> Admin:
        """What the servers can be asked to do."""
        return Admin(self.directory / "servers" / "admin.sock")

    def join(self, *names: str, auth_key: str = AUTH_KEY, flags: Sequence[str] = ()) -> None:
        """Start the daemons of these hosts (all if none is named) and bring them up, at once.

        Args:
            names: of the hosts.
            auth_key: to log in with.
            flags: more flags of these daemons.

        Raises:
            LabError: one of them did not come up.
        """
        chosen = [self.hosts[name] for name in names] if names else list(self.hosts.values())
        for host in chosen:
            host.start(*self.flags, *flags, wait=False)
        for host in chosen:
            host.wait_for_socket(SERVERS_TIMEOUT)
        going = [host.begin_up(auth_key) for host in chosen]
        for process in going:
            if (code := process.wait(UP_TIMEOUT)) != 0:
                msg = f"{process.name} ended with exit code {code}:\n{process.tail()}"
                raise LabError(msg)

    def online(self) -> set[str]:
        """Names of the nodes that are connected to control."""
        return {str(node["name"]) for node in self.admin("nodes") if node["online"]}

    def wait_complete(self, timeout: float = 10.0) -> None:
        """Wait until every host with a daemon sees all the others that have one."""
        joined = {host.name for host in self.hosts.values() if host.daemon is not None}
        for name in joined:
            self.hosts[name].wait_peers(joined - {name}, timeout)

    def logs(self, lines: int = 12) -> str:
        """The last lines of every log, for a person who wants to know what went wrong."""
        if self._claim is None:
            return ""
        parts = []
        for path in sorted(self.directory.rglob("*.log")):
            with contextlib.suppress(OSError):
                last = path.read_text(errors="replace").splitlines()[-lines:]
                if last:
                    name = path.relative_to(self.directory)
                    parts.append(f"--- {name}\n" + "\n".join(last))
        return "\n".join(parts)

    def keep_logs(self, to: Path) -> None:
        """Copy all logs to a directory."""
        if self._claim is None:
            return
        for path in self.directory.rglob("*.log"):
            target = to / path.relative_to(self.directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
