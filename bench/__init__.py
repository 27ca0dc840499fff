"""Benchmarks: every figure beside a ceiling or a peer measured in the same run. `make bench`."""
