"""Field mappings: from a provider's product to the platform's, by JMESPath."""

TARGET_FIELDS = (
    "title",
    "description",
    "handle",
    "sku",
    "barcode",
    "price",
    "compareAtPrice",
    "currency",
    "vendor",
    "productType",
    "status",
    "tags",
    "inventoryQuantity",
)
"""Product fields that a job's fieldMapping may set."""
