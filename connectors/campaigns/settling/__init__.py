"""The end of a campaign: frozen results, awards, and corrections of them."""
