"""Programs that compute a problem's answer: requested, run, compared with the votes."""
