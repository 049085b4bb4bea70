"""A definition as SQL: the steps from stored events to ranks and prizes."""
