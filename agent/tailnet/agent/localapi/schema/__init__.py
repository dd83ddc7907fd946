"""The LocalAPI's JSON: what the daemon says and its clients read.

Self-contained, so that the command line starts without the daemon's protocols; a command loads
what it needs.  Names are Go's.  Three kinds of "nothing", as Go writes them: a zero value,
``null`` (``None``), and left out (``UNSET``, what Go calls omitempty).
"""
