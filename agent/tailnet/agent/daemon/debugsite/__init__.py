"""``tailnetd --debug=ADDR``: a small HTTP site for those who watch or debug the daemon."""
