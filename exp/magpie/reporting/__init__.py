"""Views of a job: facts, the HTML page, --watch, plots, notebooks."""
