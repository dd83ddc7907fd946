"""Where datagrams of our own go out."""
