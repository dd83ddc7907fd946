"""Become a program that finds a kernel without nftables: ``python without_nftables.py PROGRAM …``.

A seccomp filter answers ``socket(AF_NETLINK, …, NETLINK_NETFILTER)`` with EPROTONOSUPPORT, which
is what a kernel without nfnetlink does.
"""

import ctypes
import os
import struct
import sys
import sysconfig

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, FAMILY, PROTOCOL = 0, 16, 32  # where they are in struct seccomp_data, little-endian
SOCKET = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
AF_NETLINK, NETLINK_NETFILTER, EPROTONOSUPPORT = 16, 12, 93
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
PROGRAM = (
    (LOAD, 0, 0, NUMBER),
    (EQUAL, 0, 5, SOCKET),
    (LOAD, 0, 0, FAMILY),
    (EQUAL, 0, 3, AF_NETLINK),
    (LOAD, 0, 0, PROTOCOL),
    (EQUAL, 0, 1, NETLINK_NETFILTER),
    (RETURN, 0, 0, ERRNO | EPROTONOSUPPORT),
    (RETURN, 0, 0, ALLOW),
)


def main() -> None:
    """Install the filter, which lasts, and go on as the program."""
    assert sysconfig.get_config_var("SIZEOF_VOID_P") == 8
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in PROGRAM))
    header = struct.pack("@HP", len(PROGRAM), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.c_char_p(header), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no seccomp")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
