"""Pure decisions: states, schedules of work and mappings, without I/O, clock or framework."""
