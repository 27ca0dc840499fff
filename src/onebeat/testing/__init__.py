"""The lab: what a stranger needs to test a schedule, a store or an executor.

It may import any room; nothing else in the package imports it.
"""
