"""The proxies: one machine for each protocol, one listener for both."""
