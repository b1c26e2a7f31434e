"""What tests break a local installation with: links that fail, servers that die and are replaced."""
