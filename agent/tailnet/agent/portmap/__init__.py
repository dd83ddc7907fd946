"""Port mappings: asking the router to let datagrams in."""
