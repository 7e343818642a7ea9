"""From a response to its final answer, equality of answers, votes; without a model."""
