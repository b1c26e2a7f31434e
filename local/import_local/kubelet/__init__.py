"""A small node agent that runs each pod's container as a process of this machine."""
