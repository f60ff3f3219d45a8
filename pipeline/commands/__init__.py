"""One verb per file: parse, call, print. Heavy imports inside the command that needs them."""
