"""ControlNet: a branch that looks at a map and tells a frozen U-Net where things stand. 2302.05543."""

from dataclasses import replace

from torch import nn

from .layers import zero_init
from .unet import UNet

WAY_UP = ("grow", "up", "norm", "head")                         # of a U-Net: a branch has none


class ControlledUNet(nn.Module):
    """A U-Net, frozen, and a trained copy of its way down, which sees a map and adds to what goes down.

    h_i + zero_i(copy_i(x_t, map)), i a resolution: Zhang et al. (2302.05543), eq. 2. The map enters the copy
    by channels that start at zero, and what it says leaves through 1x1 convolutions that start at zero, so
    before training nothing has changed. Departure: one addition a resolution, which here has one skip.
    config: that of the U-Net, but extra_channels are those of the map. Raises ValueError for a U-Net that has
    some of its own.
    """

    def __init__(self, unet, map_channels=3):
        super().__init__()
        if unet.config.extra_channels:
            found = f"the base has extra_channels = {unet.config.extra_channels}"
            raise ValueError(f"{found}: a U-Net that sees x_t only, 0, expected")
        self.config = replace(unet.config, extra_channels=map_channels)
        self.base = unet.requires_grad_(False)
        self.branch = UNet(self.config)
        self.branch.load_state_dict(unet.state_dict(), strict=False)               # all but stem_extra, zero
        for name in WAY_UP:
            delattr(self.branch, name)
        self.zero = nn.ModuleList(zero_init(nn.Conv2d(width, width, 1)) for width in unet.config.channels)

    def forward(self, x_t, level, text=None, text_mask=None, extra=None):
        """As UNet.forward; extra: the map, (B, map_channels, H, W) in [-1, 1]."""
        hints = self.branch.look(x_t, level, text, text_mask, extra)
        added = [zero(hint) for zero, hint in zip(self.zero, hints, strict=True)]
        return self.base(x_t, level, text, text_mask, added=added)
