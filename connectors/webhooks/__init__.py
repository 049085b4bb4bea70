"""``roundhouse webhooks``: delivers awards to the operators, signed as Standard Webhooks."""
