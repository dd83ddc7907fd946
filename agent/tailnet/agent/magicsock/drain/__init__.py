"""What the cores of magicsock want, done."""
