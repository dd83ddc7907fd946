"""Limits of the protocol.

Source: WireGuard paper §6.1; wireguard-go device/constants.go, device/timers.go.
"""

REKEY_AFTER_MESSAGES = 1 << 60
REJECT_AFTER_MESSAGES = (1 << 64) - (1 << 13) - 1  # never send or accept at or above

# Seconds.
REKEY_AFTER_TIME = 120.0
REJECT_AFTER_TIME = 180.0
REKEY_TIMEOUT = 5.0
REKEY_JITTER = 0.334  # added to a timeout, never subtracted: [0, 0.334)
KEEPALIVE_TIMEOUT = 10.0
REKEY_ON_RECEIVE = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
NEW_HANDSHAKE_TIMEOUT = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT
ZERO_TIMEOUT = 3 * REJECT_AFTER_TIME
COOKIE_LIFETIME = 120.0
INITIATION_FLOOR = 0.020  # between accepted initiations of one peer
UNDER_LOAD_AFTER = 1.0  # how long "under load" sticks

MAX_RETRIES = 18  # RekeyAttemptTime 90 s / RekeyTimeout 5 s
UNDER_LOAD_BACKLOG = 128  # handshake messages waiting; an eighth of upstream's queue
