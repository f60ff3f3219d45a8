"""Reading weights that other programs wrote: the format of a file, the state dicts in it, the names of their tensors."""
