"""A capture that runs: from the tap of a datapath to a stream of pcapng."""
