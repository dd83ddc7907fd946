"""A small HTTP/1.1 server for any stream; who may ask what is the business of those who use it."""
