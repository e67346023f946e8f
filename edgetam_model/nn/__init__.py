"""The boxes of EdgeTAM's figure, one file each. Letters: B batch (objects), N tokens, C channels, H W."""
