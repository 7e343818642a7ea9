"""A model before it is started: hardware, checkpoint files, tokenizer, chat template."""
