"""Networks with one contract: `backbone(x, t, y)` -> predicted noise and variance, [B, 2C, H, W].

t: [B] int64 original timesteps 0..999; y: what the model is told, [B] int64 labels or [B, T, W]
float32 encoded captions. `null_condition(y)` gives what stands for "told nothing" in its place;
`routing` is its masks, with a `hash`, or None. A network with `shares_timestep` takes t of [1],
too, as one for all images: what depends on it alone is then computed once. `blocks`, where there
are any, are the parts that may be compiled one by one.
"""
