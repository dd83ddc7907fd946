"""What the daemon itself serves, at addresses of no peer: 100.100.100.100 and fd7a:115c:a1e0::53.

::

    application ─ kernel ─ TUN ═ datapath ═ packet socket ═ stack ─┬ UDP ─────────┬─► handler
                                                                   └ TCP, framed ─┘

The stack is the native one, or ``plain`` where there is no extension: that one has no TCP.  Without
a TUN device the other native stack is in the kernel's place; the rest is the same.
"""
