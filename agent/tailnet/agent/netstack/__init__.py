"""Networking without a TUN device: the native stack, dialling, SOCKS5 and HTTP proxies."""
