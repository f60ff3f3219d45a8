"""Units and blocks that several families share. They import torch; the family files do so only in their builders."""
