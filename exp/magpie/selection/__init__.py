"""Filter rules, and which of the kept records are chosen."""
