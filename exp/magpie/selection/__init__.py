"""Filter rules, and the selection among kept records."""
