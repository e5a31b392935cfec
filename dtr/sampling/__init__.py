"""Images from trained models: the sampler, and the files it fills."""
