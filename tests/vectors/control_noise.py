"""A control handshake and its first records, capability version 145.

Origin: computed apart from this code, from the Noise specification and the frame layout of
tailscale control/controlbase, and checked against an implementation in Go.  Private keys are
consecutive byte values; X25519 clamps them itself.
"""

VERSION = 145
CLIENT_STATIC = bytes(range(0x10, 0x30))
SERVER_STATIC = bytes(range(0x30, 0x50))
CLIENT_EPHEMERAL = bytes(range(0x50, 0x70))
SERVER_EPHEMERAL = bytes(range(0x70, 0x90))
CLIENT_PUBLIC = bytes.fromhex("d89e3bad79437dbed9f843418304f460ff05c7fe81fe4a9577a804cb9367ff66")
SERVER_PUBLIC = bytes.fromhex("34e42d4af5ef94a07a3a84201b889d4cd1a743cb27b11b6a10438a8feb8e5847")
INITIATION = bytes.fromhex(
    "0091010060392d174a38b3b1beafaf1fe824870841c5fa531bc6eafdb6402c124664488c1c629330e1aba396ea71"
    "e3fc7eb13d3dd5f694ce78a6013e25bd1ee0c2af0fab7ab2bfc9b4807b985d7056541c38dad52a97d2d88c73151f"
    "464b6514f9cfa3f8d1"
)
RESPONSE = bytes.fromhex(
    "02003023b7bb8c91ae008711fb12846780bcdf1e065f821bdfec49f57e7c7dcd4c4823df7df134694aaa2f05ed50"
    "5ade006681"
)
HANDSHAKE_HASH = bytes.fromhex("098993f1448069dcd99a182aad0b87ac3f8294ea92ba0bef8ef72d6dcf164a1a")
CLIENT_TO_SERVER = bytes.fromhex("9d8d5bdb0221216acabf82e7c4b42a6fc6010e49c563b660fec07c674f9ed903")
SERVER_TO_CLIENT = bytes.fromhex("d0b3d78c67fddd6d01bc18df4bb73b1307a629addc0eae0cb5b48071c22c215a")
CLIENT_RECORDS = [
    (
        b"PRI * HTTP/2.0",
        bytes.fromhex("04001ef29441bf9913be88f536e7eedac7eb29ed9211ea54b73270f23c5c0b0faf"),
    ),
    (b"hello", bytes.fromhex("040015ca1d3de08c9b04bda53e696270f90831bbc54fe6d7")),
]
SERVER_RECORD = (
    bytes.fromhex("ffffff5453") + b"\x00\x00\x00\x02{}",
    bytes.fromhex("04001b916cbc7e90fea2b6704dd891ef13f512046a954585eaf442f8028e"),
)
