"""DERP frames with known content.

Keys and nonce are those of the NaCl box known-answer test that tailscale's Rust library uses
(nacl_box_kat.json); the frame was computed from them.
"""

CLIENT_PRIVATE = bytes(range(1, 33))
CLIENT_PUBLIC = bytes.fromhex("07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c")
SERVER_PRIVATE = bytes(range(0x20, 0x40))
SERVER_PUBLIC = bytes.fromhex("358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254")
NONCE = bytes.fromhex("fedcba9876543210") * 3

CLIENT_INFO_JSON = b'{"version":2,"CanAckPings":true}'
CLIENT_INFO_FRAME = bytes.fromhex(
    "020000006807a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c"
    "fedcba9876543210fedcba9876543210fedcba9876543210"
    "266269aeda11d3da86119330c4ac7a6ebdc119649ee85e8f73b31d4cc893abbd"
    "f0d9858c15c96749e59f40edf03ff69a"
)
