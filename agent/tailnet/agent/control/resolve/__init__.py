"""Names into addresses, also when DNS is broken."""
