"""The cameras of `gan_experiments.cameras` under their name of before."""

from gan_experiments.cameras import intrinsics_of, joined, looking, on_sphere, parted, rays

__all__ = ["intrinsics_of", "joined", "looking", "on_sphere", "parted", "rays"]
