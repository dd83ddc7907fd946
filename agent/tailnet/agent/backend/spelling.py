"""How hostnames, tags and prefixes are written; what is not, is refused in one line."""

import re
from ipaddress import ip_interface

from tailnet.agent.addr import IPNetwork
from tailnet.agent.errors import UserError

MAX_HOSTNAME = 253  # characters; dnsname.go maxNameLength
MAX_TEXT = 256  # characters of a free text


def check_hostname(name: str) -> None:
    """Letters, digits and hyphens in labels of at most 63; empty is "the machine's own name".

    Raises:
        UserError: anything else.
    """
    if not name:
        return
    if len(name) > MAX_HOSTNAME:
        msg = f"hostname too long: {len(name)} characters (max {MAX_HOSTNAME})"
        raise UserError(msg)
    for label in name.split("."):
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", label):
            msg = (
                f"bad hostname {name!r}: labels have 1 to 63 letters, digits and hyphens, "
                "and neither start nor end with a hyphen"
            )
            raise UserError(msg)


def check_tag(tag: str) -> None:
    """``tag:`` and a name: a letter, then letters, digits and hyphens.

    Raises:
        UserError: anything else.
    """
    if not re.fullmatch(r"tag:[A-Za-z][A-Za-z0-9-]*", tag) or len(tag) > MAX_TEXT:
        msg = (
            f"bad tag {tag[:MAX_TEXT]!r}: it has the form tag:NAME, "
            "NAME being a letter followed by letters, digits and hyphens"
        )
        raise UserError(msg)


def parse_prefix(text: str) -> IPNetwork:
    """A prefix without host bits.

    Raises:
        UserError: anything else.
    """
    try:
        interface = ip_interface(text) if "/" in text and "%" not in text else None
    except ValueError:
        interface = None
    if interface is None:
        msg = f"{text[:MAX_TEXT]!r} is not a valid CIDR prefix, such as 192.0.2.0/24"
        raise UserError(msg)
    if interface.ip != interface.network.network_address:
        msg = f"{text} has non-address bits set; expected {interface.network}"
        raise UserError(msg)
    return interface.network
