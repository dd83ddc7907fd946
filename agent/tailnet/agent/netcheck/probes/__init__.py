"""Questions to relays other than STUN from the data socket."""
