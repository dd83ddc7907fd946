"""Who answers for names: our resolver and the host, each told its part."""
