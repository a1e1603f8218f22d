"""Reports how a run ended to a webhook, for the pipeline's exit handler."""
