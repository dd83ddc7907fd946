"""The HTTP surface for this machine's users, over a unix socket."""
