"""Measures what Cheops costs, beside what a user would have without it, in one run: `make bench`.

It is no part of the installed package. Load goes only to processes that it started, over loopback, and everything it
starts ends with it. Not promised: numbers that can be compared with another machine's, or with another run's; only the
ratios of one run mean something, which is why each variant is measured in turn with the others, many times.
"""
