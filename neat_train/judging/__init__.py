"""Two sides compared by a judging model, each pair of answers asked in both orders."""
