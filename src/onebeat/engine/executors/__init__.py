"""One file for each kind of target; each optional library is imported in exactly one of them."""
