"""The datapath in pure Python: complete, readable, and the oracle for faster ones."""
