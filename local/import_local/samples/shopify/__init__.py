"""The sample Shopify: GraphQL Admin API with cost accounting, bulk operations, and the legacy REST API."""
