"""`kubectl imports`: what a person on call asks and does."""
