"""Bytes from socket to socket, for connections that the native stack does not carry."""
