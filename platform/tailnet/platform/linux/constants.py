"""What other programs of the host see: as the original agent has them, since recipes name these.

Source: tailscale util/linuxfw/linuxfw.go; wgengine/router/osrouter/router_linux.go.
"""

BYPASS_MARK = 0x80000  # on the daemon's own packets: must not enter the tunnel
MARK_MASK = 0xFF0000
ROUTE_TABLE = 52
IFNAMSIZ = 16  # bytes of a device's name, with a zero byte
RULE_BASE = 5200  # priorities +10, +30, +50, +70
