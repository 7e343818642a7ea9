"""The record: keys, labels, and how files of records are read."""
