"""What ResNet, ResNeXt and their descendants share: the stages of table 1, and the options that shape them.

Paper: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
"""

from __future__ import annotations

from pipeline.zoo.spec import Option

# Table 1: units in each stage. Below 50 layers they are two 3×3 convolutions, from there on bottlenecks.
REPEATS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
FIRST_WITH_BOTTLENECKS = 50

WIDTH = Option(1.0, "width multiplier: scales every channel count; after Wide ResNets (2016)", 0.125, 4.0)
STRIDE_MEANING = "which convolution of a bottleneck has the stride: the first 1×1 or the 3×3"
