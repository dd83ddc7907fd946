"""MagicDNS: what names mean in a tailnet, and who answers the others."""
