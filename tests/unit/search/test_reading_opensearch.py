"""What the e2e test reads of OpenSearch, against the stand-in that every run has."""

from e2e.catalogue_stores import in_opensearch
from opensearch_stand_in import OpenSearchStandIn

from import_core.adapters.search.opensearch import FIRST, MAPPING


async def test_the_companys_documents_are_read_once_each_and_no_others() -> None:
    async with OpenSearchStandIn().running() as server:
        index = "products" + FIRST
        server.indices[index], server.aliases["products"] = MAPPING, index
        server.documents[index] = {
            "b": {"company": "acme"},
            "a": {"company": "acme"},
            "theirs": {"company": "other"},
        }
        assert await in_opensearch(server.url, "products", "acme") == ["a", "b"]
        assert await in_opensearch(server.url, "products", "nobody") == []
        assert server.requests["search"] == 2
