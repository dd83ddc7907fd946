"""BLAKE2s in its three uses."""

import pytest

from tailnet.agent.crypto.kdf import equal, hash_, hmac_, kdf, mac


def test_hash_vector() -> None:
    """RFC 7693 appendix B."""
    want = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert hash_(b"abc").hex() == want


def test_wireguard_constants() -> None:
    """Initial chaining key and hash of the WireGuard paper §5.4."""
    key = hash_(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    assert key.hex() == "60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36"
    first = hash_(key + b"WireGuard v1 zx2c4 Jason@zx2c4.com")
    assert first.hex() == "2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3"


@pytest.mark.parametrize(
    ("data", "key", "one", "two", "three"),
    [
        (
            "746573742d6b6579",
            "746573742d696e707574",
            "6f0e5ad38daba1bea8a0d213688736f19763239305e0f58aba697f9ffc41c633",
            "df1194df20802a4fe594cde27e92991c8cae66c366e8106aaa937a55fa371e8a",
            "fac6e2745a325f5dc5d11a5b165aad08b0ada28e7b4e666b7c077934a4d76c24",
        ),
        (
            "776972656775617264",
            "776972656775617264",
            "491d43bbfdaa8750aaf535e334ecbfe5129967cd64635101c566d4caefda96e8",
            "1e71a379baefd8a79aa4662212fcafe19a23e2b609a3db7d6bcba8f560e3d25f",
            "31e1ae48bddfbe5de38f295e5452b1909a1b4e38e183926af3780b0c1e1f0160",
        ),
        (
            "",
            "",
            "8387b46bf43eccfcf349552a095d8315c4055beb90208fb1be23b894bc2ed5d0",
            "58a0e5f6faefccf4807bff1f05fa8a9217945762040bcec2f4b4a62bdfe0e86e",
            "0ce6ea98ec548f8e281e93e32db65621c45eb18dc6f0a7ad94178610a2f7338e",
        ),
    ],
)
def test_kdf_vectors(data: str, key: str, one: str, two: str, three: str) -> None:
    """wireguard-go device/kdf_test.go; HMAC, not keyed BLAKE2s."""
    secret, salt = bytes.fromhex(data), bytes.fromhex(key)
    assert [out.hex() for out in kdf(secret, salt, 3)] == [one, two, three]
    assert kdf(secret, salt, 1) == kdf(secret, salt, 3)[:1]


def test_hmac_is_not_the_keyed_hash() -> None:
    """Two constructions that are easily confused."""
    assert hmac_(b"key", b"data")[:16] != mac(b"key", b"data")
    assert len(mac(b"key", b"data")) == 16


def test_equal() -> None:
    """Equal bytes only."""
    assert equal(b"same", b"same")
    assert not equal(b"same", b"some")
    assert not equal(b"same", b"sam")
