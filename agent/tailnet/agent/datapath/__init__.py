"""The seam to the packets: interface, reference implementation, shell."""
