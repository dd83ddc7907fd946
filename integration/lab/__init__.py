"""A small real internet on one machine: servers, networks, hosts."""
