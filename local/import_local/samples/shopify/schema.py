"""The part of the Admin API's schema that the sample has: types, fields, arguments and their kinds."""

from __future__ import annotations

from dataclasses import dataclass, field

# Argument kinds: Int, String, Boolean, ID, [ID!], and enums by their values.
SORT_KEYS = ("ID", "TITLE", "CREATED_AT", "UPDATED_AT", "VENDOR", "PRODUCT_TYPE")
PAGE_ARGUMENTS = {"first": "Int", "after": "String", "last": "Int", "before": "String", "reverse": "Boolean"}


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a field returns: a scalar (no selections), an object, a list of objects or a connection."""

    type_name: str
    arguments: dict[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    connection: bool = False


@dataclass(frozen=True, slots=True)
class ObjectType:
    """An object, interface or connection type; `kinds` are the types that an interface may turn out to be."""

    fields: dict[str, FieldType]
    kinds: tuple[str, ...] = ()


ENUMS: dict[str, tuple[str, ...]] = {
    "ProductSortKeys": SORT_KEYS,
    "BulkOperationType": ("QUERY", "MUTATION"),
    "ProductVariantSortKeys": ("ID", "POSITION"),
    "ProductMediaSortKeys": ("ID", "POSITION"),
    "WeightUnit": ("GRAMS", "KILOGRAMS", "OUNCES", "POUNDS"),
}
SCALARS = {
    "ID",
    "String",
    "Int",
    "Float",
    "Boolean",
    "Money",
    "DateTime",
    "URL",
    "HTML",
    "UnsignedInt64",
    "Enum",
}


def scalars(text: str) -> dict[str, FieldType]:
    """Return scalar fields from "name:Type name:Type"; String where no type is given."""
    pairs = (item.partition(":") for item in text.split())
    return {name: FieldType(kind or "String") for name, _, kind in pairs}


def connection(node: str, **arguments: str) -> FieldType:
    """Return a field that is a connection over `node`."""
    return FieldType(f"{node}Connection", {**PAGE_ARGUMENTS, **arguments}, connection=True)


TYPES: dict[str, ObjectType] = {
    "QueryRoot": ObjectType(
        {
            "shop": FieldType("Shop"),
            "product": FieldType("Product", {"id": "ID"}, ("id",)),
            "products": connection("Product", query="String", sortKey="ProductSortKeys", savedSearchId="ID"),
            "productsCount": FieldType("Count", {"query": "String", "limit": "Int"}),
            "node": FieldType("Node", {"id": "ID"}, ("id",)),
            "nodes": FieldType("Node", {"ids": "[ID!]"}, ("ids",)),
            "currentBulkOperation": FieldType("BulkOperation", {"type": "BulkOperationType"}),
            "bulkOperation": FieldType("BulkOperation", {"id": "ID"}, ("id",)),
        }
    ),
    "Mutation": ObjectType(
        {
            "bulkOperationRunQuery": FieldType(
                "BulkOperationRunQueryPayload", {"query": "String", "groupObjects": "Boolean"}, ("query",)
            ),
            "bulkOperationCancel": FieldType("BulkOperationCancelPayload", {"id": "ID"}, ("id",)),
        }
    ),
    "Shop": ObjectType(scalars("id:ID name myshopifyDomain currencyCode:Enum")),
    "Count": ObjectType(scalars("count:Int precision:Enum")),
    "Node": ObjectType(
        scalars("id:ID"),
        kinds=("Product", "ProductVariant", "MediaImage", "Video", "BulkOperation", "Shop"),
    ),
    "Product": ObjectType(
        {
            **scalars(
                "id:ID legacyResourceId:UnsignedInt64 title handle description descriptionHtml:HTML vendor "
                "productType status:Enum tags createdAt:DateTime updatedAt:DateTime publishedAt:DateTime "
                "totalInventory:Int tracksInventory:Boolean hasOnlyDefaultVariant:Boolean isGiftCard:Boolean"
            ),
            "options": FieldType("ProductOption", {"first": "Int"}),
            "variantsCount": FieldType("Count"),
            "mediaCount": FieldType("Count"),
            "featuredMedia": FieldType("Media"),
            "variants": connection("ProductVariant", sortKey="ProductVariantSortKeys"),
            "media": connection("Media", sortKey="ProductMediaSortKeys", query="String"),
        }
    ),
    "ProductOption": ObjectType(scalars("id:ID name position:Int values")),
    "ProductVariant": ObjectType(
        {
            **scalars(
                "id:ID legacyResourceId:UnsignedInt64 title displayName sku price:Money compareAtPrice:Money "
                "barcode barcodes inventoryQuantity:Int position:Int availableForSale:Boolean taxable:Boolean "
                "createdAt:DateTime updatedAt:DateTime"
            ),
            "selectedOptions": FieldType("SelectedOption"),
            "inventoryItem": FieldType("InventoryItem"),
            "product": FieldType("Product"),
        }
    ),
    "SelectedOption": ObjectType(scalars("name value")),
    "InventoryItem": ObjectType(
        {
            **scalars("id:ID sku tracked:Boolean requiresShipping:Boolean"),
            "measurement": FieldType("InventoryItemMeasurement"),
        }
    ),
    "InventoryItemMeasurement": ObjectType({**scalars("id:ID"), "weight": FieldType("Weight")}),
    "Weight": ObjectType(scalars("value:Float unit:Enum")),
    "Media": ObjectType(
        {**scalars("id:ID alt status:Enum mediaContentType:Enum"), "preview": FieldType("MediaPreviewImage")},
        kinds=("MediaImage", "Video", "ExternalVideo", "Model3d"),
    ),
    "MediaPreviewImage": ObjectType({**scalars("status:Enum"), "image": FieldType("Image")}),
    "MediaImage": ObjectType(
        {
            **scalars(
                "id:ID alt status:Enum fileStatus:Enum mediaContentType:Enum mimeType createdAt:DateTime"
            ),
            "image": FieldType("Image"),
            "preview": FieldType("MediaPreviewImage"),
        }
    ),
    "Video": ObjectType(
        {
            **scalars("id:ID alt status:Enum mediaContentType:Enum duration:Int"),
            "preview": FieldType("MediaPreviewImage"),
        }
    ),
    "ExternalVideo": ObjectType(scalars("id:ID alt status:Enum mediaContentType:Enum embedUrl:URL")),
    "Model3d": ObjectType(scalars("id:ID alt status:Enum mediaContentType:Enum")),
    "Image": ObjectType(scalars("id:ID url:URL altText width:Int height:Int")),
    "PageInfo": ObjectType(scalars("hasNextPage:Boolean hasPreviousPage:Boolean startCursor endCursor")),
    "BulkOperation": ObjectType(
        scalars(
            "id:ID status:Enum errorCode:Enum createdAt:DateTime completedAt:DateTime type:Enum query "
            "objectCount:UnsignedInt64 rootObjectCount:UnsignedInt64 fileSize:UnsignedInt64 url:URL "
            "partialDataUrl:URL"
        )
    ),
    "UserError": ObjectType(scalars("field message code:Enum")),
    "BulkOperationRunQueryPayload": ObjectType(
        {"bulkOperation": FieldType("BulkOperation"), "userErrors": FieldType("UserError")}
    ),
    "BulkOperationCancelPayload": ObjectType(
        {"bulkOperation": FieldType("BulkOperation"), "userErrors": FieldType("UserError")}
    ),
}


def _add_connections() -> None:
    for node in ("Product", "ProductVariant", "Media"):
        TYPES[f"{node}Connection"] = ObjectType(
            {
                "edges": FieldType(f"{node}Edge"),
                "nodes": FieldType(node),
                "pageInfo": FieldType("PageInfo"),
            }
        )
        TYPES[f"{node}Edge"] = ObjectType({"cursor": FieldType("String"), "node": FieldType(node)})


_add_connections()
