"""What a model is before it is started: hardware, checkpoint files, tokenizer, chat template."""
