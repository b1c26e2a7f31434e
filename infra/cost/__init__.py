"""What an installation costs in a month: pure calculation on a stack's sizes, a workload and a price list."""
