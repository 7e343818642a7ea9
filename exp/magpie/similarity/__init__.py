"""The same problem or not: normaliser, duplicates, decontamination, test sets."""
