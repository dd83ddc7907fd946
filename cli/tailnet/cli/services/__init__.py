"""Files that make tailnetd a service, and putting them where they belong."""
