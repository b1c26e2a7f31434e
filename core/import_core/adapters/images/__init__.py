"""Images: reading what untrusted files hold."""
