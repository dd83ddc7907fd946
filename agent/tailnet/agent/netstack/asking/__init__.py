"""How resolvers are reached without a TUN device."""
