"""The manual and the Debian package, made from what there is."""
