"""A scripted Shopify shop for unit tests: answers our GraphQL documents by their operation's name."""

from import_core.domain.limits import PageShape
from import_worker.providers.http import CallPolicy
from import_worker.providers.shopify import ShopifySettings

POLICY = CallPolicy(first_outage_delay=0.001)
SETTINGS = ShopifySettings(shape=PageShape(products=4, variants=2, media=2), nested_page=3, policy=POLICY)
TOKEN = {"accessToken": "shpat_1"}


def connection(nodes, start, size, name):
    end = min(len(nodes), start + size)
    return {
        "edges": [{"cursor": f"{name}{n + 1}", "node": nodes[n]} for n in range(start, end)],
        "pageInfo": {"hasNextPage": end < len(nodes), "endCursor": f"{name}{end}" if end > start else None},
    }


def position(cursor, name):
    return int(cursor.removeprefix(name)) if cursor else 0


class Shop:
    """A shop that answers the documents by their operation's name; `errors` come first, one per call."""

    def __init__(self, reply, products):
        self.reply = reply
        self.products = products
        self.errors = []
        self.cost_per_product = 1
        self.available = 2000.0
        self.calls = []
        self.bulk_answers = {}

    def __call__(self, request):
        if request.target == "/admin/oauth/access_token":
            return self.reply({"access_token": f"shpat_{len(self.calls)}", "expires_in": 86399})
        body = request.json()
        operation = body["query"].split("(")[0].split("{")[0].split()[-1]
        self.calls.append((operation, body["variables"]))
        if self.errors:
            return self.errors.pop(0)
        answers = {
            "Count": self.count,
            "Shop": self.check,
            "Products": self.listing,
            "ProductsById": self.by_id,
            "Variants": self.nested,
            "Media": self.nested,
            "CurrentBulk": self.bulk,
            "RunBulk": self.bulk,
            "BulkStatus": self.bulk,
        }
        return answers[operation](body["variables"], operation)

    def answer(self, data, cost=1):
        status = {"maximumAvailable": 2000.0, "currentlyAvailable": self.available, "restoreRate": 100.0}
        extensions = {"cost": {"requestedQueryCost": cost, "throttleStatus": status}}
        return self.reply({"data": data, "extensions": extensions})

    def count(self, _variables, _name):
        return self.answer({"productsCount": {"count": len(self.products), "precision": "EXACT"}})

    def check(self, _variables, _name):
        return self.answer({"shop": {"id": "gid://shopify/Shop/1"}})

    def products_page(self, variables):
        page = connection(self.products, position(variables["after"], "p"), variables["first"], "p")
        for edge in page["edges"]:
            whole = edge["node"]
            edge["node"] = whole | {
                name: connection(whole[name], 0, variables[name], name) for name in ("variants", "media")
            }
        return {"products": page}

    def bulk(self, _variables, name):
        return self.answer(self.bulk_answers[name].pop(0))

    def products_by_id(self, ids, variables):
        known = {whole["id"]: whole for whole in self.products}
        return [
            known[one]
            | {name: connection(known[one][name], 0, variables[name], name) for name in ("variants", "media")}
            if one in known
            else None
            for one in ids
        ]

    def by_id(self, variables, _name):
        nodes = {"nodes": self.products_by_id(variables["ids"], variables)}
        return self.costly(len(variables["ids"]), nodes)

    def listing(self, variables, _name):
        return self.costly(variables["first"], self.products_page(variables))

    def costly(self, products, data):
        cost = products * self.cost_per_product
        if cost > 1000:
            error = {
                "message": "Too costly",
                "extensions": {"code": "MAX_COST_EXCEEDED", "cost": cost, "maxCost": 1000},
            }
            return self.reply({"errors": [error]})
        return self.answer(data, cost)

    def nested(self, variables, operation):
        name = operation.lower()
        product = next((item for item in self.products if item["id"] == variables["id"]), None)
        if product is None:
            return self.answer({"product": None})
        start = position(variables["after"], name)
        return self.answer({"product": {name: connection(product[name], start, variables["first"], name)}})


def product(number, variants=1, media=1):
    return {
        "id": f"gid://shopify/Product/{number}",
        "title": f"Tea {number}",
        "options": [{"name": "Size", "values": ["S"]}],
        "variants": [
            {"id": f"gid://shopify/ProductVariant/{number}-{n}", "price": "1.50"} for n in range(variants)
        ],
        "media": [
            {"id": f"m{n}", "alt": None, "image": {"url": f"https://x/{number}-{n}"}} for n in range(media)
        ],
    }


async def collect(provider, cursor=None):
    return [page async for page in provider.pages(cursor)]


def numbers(pages):
    return [int(item.external_id.rpartition("/")[2]) for page in pages for item in page.products]


def operations(shop):
    return [name for name, _ in shop.calls]


def graphql_error(reply, code, message="No", **more):
    return reply({"errors": [{"message": message, "extensions": {"code": code}}], **more})


async def collect_into(pages, provider):
    """Keep the pages that came before an error."""
    async for page in provider.pages(None):
        pages.append(page)
