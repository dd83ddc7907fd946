"""The host's network: what follows when it becomes another one."""
