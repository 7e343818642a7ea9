"""Programs that compute a problem's answer: asked for, run, compared with the votes."""
