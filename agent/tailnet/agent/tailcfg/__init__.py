"""The control protocol's JSON as immutable structs; unknown fields are ignored."""
