"""Commands of hooks: run by us, or by a unit that has no rights to lose."""
