"""What helps to find a fault, in one file on this machine; no secrets are in it."""

import io
import re
from collections.abc import Mapping

from tailnet.client.errors import ClientError
from tailnet.client.sync import Client

Asked = tuple[str, str]
ALWAYS: Mapping[str, Asked] = {
    "status.json": ("GET", "status"),
    "prefs.json": ("GET", "prefs"),
    "routes.json": ("GET", "routes"),
    "paths.json": ("GET", "path"),
    "dns.json": ("GET", "dns-osconfig"),
    "metrics.txt": ("GET", "metrics"),
    "network.json": ("POST", "debug?action=netmon"),
    "drops.json": ("POST", "debug?action=drops"),
}
DIAGNOSIS: Mapping[str, Asked] = {
    "plan.json": ("POST", "debug?action=plan"),
    "netcheck.json": ("POST", "netcheck"),
    "portmap.json": ("POST", "debug?action=portmap"),
    "tasks.txt": ("GET", "goroutines"),
    "derpmap.json": ("GET", "derpmap"),
}
SECRET = re.compile(
    rb"(?:[a-z]*priv(?:ate)?(?:key)?:[0-9a-f]+"  # any of our private keys
    rb"|(?:tskey|hskey)-[0-9A-Za-z_-]+"
    rb"|(?<=\"AuthURL\":\")[^\"]+)"  # whoever opens it logs this machine in
)
README = """Bug report of tailnetd, {marker}

Made on this machine by `tnet bugreport --bundle`; nothing was sent anywhere. Private keys, auth
keys and login links are not in it. Names and addresses of your tailnet, your public address, routes
and DNS servers are: look at it before you give it to somebody.

{note}
"""


def without_secrets(data: bytes) -> bytes:
    """What may be shown."""
    return SECRET.sub(b"[removed]", data)


def gather(client: Client, *, diagnose: bool) -> dict[str, bytes]:
    """Answers by file name; why there is none in its place."""
    found = {}
    for name, (method, question) in {**ALWAYS, **(DIAGNOSIS if diagnose else {})}.items():
        try:
            found[name] = client.request(method, question)
        except ClientError as error:
            found[name] = f"no answer: {error}\n".encode()
    return found


def pack(marker: str, members: Mapping[str, bytes]) -> bytes:
    """A ``.tar.gz`` of one folder; every member passes :func:`without_secrets`."""
    import calendar  # noqa: PLC0415 - most reports have no bundle
    import tarfile  # noqa: PLC0415
    import time  # noqa: PLC0415

    made = calendar.timegm(time.strptime(marker.split("-")[2], "%Y%m%d%H%M%SZ"))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in members.items():
            safe = without_secrets(data)
            about = tarfile.TarInfo(f"{marker}/{name}")
            about.size, about.mtime, about.mode = len(safe), made, 0o600
            archive.addfile(about, io.BytesIO(safe))
    return out.getvalue()
