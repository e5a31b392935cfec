"""Networks with one contract: `backbone(x, t, y)` -> predicted noise and variance, [B, 2C, H, W].

t: [B] int64 original timesteps 0..999; y: what the model is told, [B] int64 labels or [B, T, W]
float32 encoded captions. `null_condition(y)` gives what stands for "told nothing" in its place;
`routing` is its masks, with a `hash`, or None.
"""
