"""``tnet web``: a page to look at, served on this machine for this user."""
