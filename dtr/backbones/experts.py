"""Multi-experts (Appendix D): several networks sampled as one, each on its range of timesteps."""

import torch
from torch import Tensor, nn


class Experts(nn.Module):
    """Networks of one family and the timestep ranges [first, last) they were trained on."""

    def __init__(self, models: list[nn.Module], ranges: list[tuple[int, int]]) -> None:
        super().__init__()
        self.models, self.ranges = nn.ModuleList(models), ranges
        self.num_classes = models[0].num_classes
        self.shares_timestep = all(getattr(m, "shares_timestep", False) for m in models)

    def null_condition(self, y: Tensor) -> Tensor:
        """What stands for "told nothing" in the place of y."""
        return self.models[0].null_condition(y)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Output of the expert of each sample's original timestep; shapes as of one network."""
        if len(t) < len(x):  # one timestep for all
            (model,) = (
                own
                for own, (first, last) in zip(self.models, self.ranges, strict=True)
                if first <= int(t) < last
            )
            return model(x, t, y)
        output = None
        for model, (first, last) in zip(self.models, self.ranges, strict=True):
            own = ((t >= first) & (t < last)).nonzero().flatten()
            if len(own) == 0:
                continue
            part = model(x[own], t[own], y[own])
            if output is None:
                output = torch.full((len(x), *part.shape[1:]), torch.nan, device=x.device)
            output[own] = part
        return output
