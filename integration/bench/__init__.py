"""Measurements on real kernels, side by side with other implementations."""
