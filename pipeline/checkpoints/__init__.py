"""Reading weights that other programs wrote: a file's format, the state dicts in it, the names of their tensors."""
