"""Sample providers: one loopback HTTP server that speaks the Shopify and Roastify protocols, faults included."""
