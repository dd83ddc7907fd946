"""Commands and webhooks of the configuration file, run when something happens."""
