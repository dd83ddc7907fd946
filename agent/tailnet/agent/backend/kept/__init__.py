"""The last network map on disk, so that peers are reachable before the server answers."""
