"""Where the process spends its time and its memory, for ``go tool pprof`` and its like."""
