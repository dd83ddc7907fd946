"""A WireGuard handshake with fixed keys.

Origin: GeiserX/tailscale-rs tests/vectors/wireguard_handshake_transport.json (made with Go's
x/crypto).  The second set, with the all-zero pre-shared key that Tailscale uses, and the MACs were
computed from the WireGuard paper §5.4 with an independent implementation.
"""

INITIATOR_PRIVATE = b"\x01" * 32
RESPONDER_PRIVATE = b"\x02" * 32
INITIATOR_EPHEMERAL = b"\x03" * 32
RESPONDER_EPHEMERAL = b"\x04" * 32
TIMESTAMP = b"\x07" * 12
INITIATOR_INDEX = 0x11111111
RESPONDER_INDEX = 0x22222222
PSK = b"\x05" * 32

INITIATOR_PUBLIC = bytes.fromhex("a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209")
RESPONDER_PUBLIC = bytes.fromhex("ce8d3ad1ccb633ec7b70c17814a5c76ecd029685050d344745ba05870e587d59")

# Up to the first MAC; the same for both pre-shared keys.
INITIATION = bytes.fromhex(
    "01000000111111115dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef220a26599fb2188b"
    "b723276fc173af67616c817fc32fd04d686d87ec152fac10eed2bda3bb3b6f1eded6977684082284d850fc41b4cbcf"
    "9deeba2039d1c21710e7081f158a3f5bb6ceb5c344e3"
)
INITIATION_MAC1 = bytes.fromhex("43e139cf0a3cd812e15d254a87d5ae91")

RESPONSE_HEAD = bytes.fromhex(
    "020000002222222211111111ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10b"
)
# pre-shared key -> sealed nothing, key initiator to responder, key responder to initiator
SETS = {
    PSK: (
        bytes.fromhex("dad1dbbeb72c29c492bd43373a62c58b"),
        bytes.fromhex("a18cc809fd05b6b5f99644cf506f89dce368c2f54a9dbeb9a384f36c274317ef"),
        bytes.fromhex("b1aa1b797d3a45da97552b8084ade493aa767f15af95854bc86557f6dacd851d"),
    ),
    bytes(32): (
        bytes.fromhex("9f3b30d1fd428342b38a0b0e98ae7efb"),
        bytes.fromhex("b30c71d520eb54edcf0ad32b6c2e5bdff747e6e2bf8a126ae52eb1c7140b4398"),
        bytes.fromhex("bc8d9cb5d3c1654d26eef4fab1426ff05fff238c2ddac280941197772e21c21c"),
    ),
}
RESPONSE_MAC1 = bytes.fromhex("83ded0047cc5cc7f047df68f4535a830")  # with PSK

# Transport messages under key 11 x 32: counter, plaintext, ciphertext and tag.
TRANSPORT_KEY = b"\x11" * 32
TRANSPORT = (
    (0, "78797a7a79", "ddc5edec00deab2e13b1c722647aba8e9bd1d6574e"),
    (1, "706c6f766572", "a148eec08017563c51a807ab84fa67a6071a0aaf8a91"),
    (0x0102030405060708, "deadbeef", "6adef61326b21fac9641232622ec6e35c845e0e2"),
)
