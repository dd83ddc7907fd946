"""Which files make which kind of service, and what is in them.

The files beside this module say ``/usr/bin``; where they are installed they say where tailnetd is.
"""

from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path, PurePosixPath

ETC = PurePosixPath("/etc")
UNITS = ETC / "systemd/system"


class Kind(StrEnum):
    """What the service is."""

    SYSTEM = "system"  # with a device, as root with few capabilities
    UNPRIVILEGED = "unprivileged"  # with a device, as a user of its own
    USERSPACE = "userspace"  # without a device, as nobody
    USER = "user"  # the same, of one user


class Manager(StrEnum):
    """What starts services."""

    SYSTEMD = "systemd"
    OPENRC = "openrc"
    LAUNCHD = "launchd"
    WINDOWS = "windows"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a service.

    Attributes:
        path: where it belongs.
        text: what is in it.
        theirs: people change it, so one that exists is left alone.
    """

    path: PurePosixPath
    text: str
    theirs: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """All about one kind under systemd.

    Attributes:
        unit: what is enabled and started.
        others: further units, to be stopped with it.
        files: what to write.
        state: where it keeps keys and settings.
    """

    unit: str
    others: tuple[str, ...]
    files: tuple[File, ...]
    state: PurePosixPath


def service(kind: Kind, binaries: Path, home: Path) -> Service:
    """The files of a kind.

    Args:
        kind: what it is.
        binaries: directory of ``tailnetd`` and ``tnet``.
        home: of the user; for :attr:`Kind.USER`.
    """
    if kind is Kind.USER:
        place = PurePosixPath(home) / ".config/systemd/user/tailnetd.service"
        unit = File(place, template("systemd/tailnetd-user.service", binaries))
        state = PurePosixPath(home) / ".local/state/tailnetd"
        return Service("tailnetd.service", (), (unit,), state)
    name = "tailnetd-userspace" if kind is Kind.USERSPACE else "tailnetd"
    units = [f"{name}.service", "tailnetd-wait-online.service", "tailnet-online.target"]
    theirs = template("systemd/tailnetd.defaults", binaries)
    others = [File(ETC / "default" / name, theirs, theirs=True)]
    if kind is not Kind.USERSPACE:
        units += ["tailnetd-guard.service", "tailnetd-hook.socket", "tailnetd-hook@.service"]
        module = template("systemd/tailnetd.modules-load.conf", binaries)
        others.append(File(ETC / "modules-load.d/tailnetd.conf", module))
    if kind is Kind.UNPRIVILEGED:
        user = template("systemd/tailnetd.sysusers.conf", binaries)
        rights = template("systemd/tailnetd-unprivileged.conf", binaries)
        asks = template("systemd/tailnetd-hook-unprivileged.conf", binaries)
        others.append(File(ETC / "sysusers.d/tailnetd.conf", user))
        others.append(File(UNITS / "tailnetd-hook.socket.d/unprivileged.conf", asks))
        others.append(File(UNITS / "tailnetd.service.d/unprivileged.conf", rights))
    files = [File(UNITS / each, template(f"systemd/{each}", binaries)) for each in units]
    further = tuple(each for each in units[1:] if "@" not in each)
    return Service(units[0], further, (*files, *others), PurePosixPath("/var/lib") / name)


def shown(manager: Manager, kind: Kind, binaries: Path, home: Path) -> str:
    """The files of a kind, or of another service manager, to be looked at or put there by hand."""
    match manager:
        case Manager.SYSTEMD:
            parts = (f"# {file.path}\n{file.text}" for file in service(kind, binaries, home).files)
            return "\n".join(parts)
        case Manager.OPENRC:
            return template("openrc/tailnetd", binaries)
        case Manager.LAUNCHD:
            return template("launchd/tailnetd.plist", binaries)
        case Manager.WINDOWS:
            return template("windows/tailnetd.cmd", binaries)


def template(name: str, binaries: Path) -> str:
    """The text of a file beside this module, with the programs where they are."""
    text = (resources.files(__package__) / name).read_text(encoding="utf-8")
    return text.replace("/usr/bin/", f"{binaries}/")
