"""The subcommands of `drmaaticd`: one module each, with `add` (its arguments) and `run`."""
