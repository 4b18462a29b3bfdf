"""Map and reduce."""
