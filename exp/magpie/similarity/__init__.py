"""Whether problems are the same: normalisation, duplicates, decontamination, test sets."""
