"""The engines: each speaks to one kind of resource manager, all through `base.Engine`."""
