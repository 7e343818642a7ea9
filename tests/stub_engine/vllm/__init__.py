"""Stands in for vLLM where the engine is not the point: put tests/stub_engine into PYTHONPATH, and a server starts in a second.

Its command line, processes, addresses, key and end are the real one's; its words are not: it writes sums, and solves most.
"""
