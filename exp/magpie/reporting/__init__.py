"""What a job looks like: facts, the HTML page, --watch, plots, notebooks."""
