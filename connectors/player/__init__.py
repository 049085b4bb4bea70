"""``roundhouse player``: what is done to one player of a tenant."""
