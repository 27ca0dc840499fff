"""The schedulers that people use today, and ourselves, in one play before one judge.

An optional group: it makes an environment for each peer, by the locks in bench/peers. Nothing in the verdict
comes out of who is judged: bodies leave lines in a file, and the play knows what it did to whom.
"""
