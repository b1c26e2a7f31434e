"""The sample Shopify's GraphQL: what it parses, refuses and charges."""

import pytest

from import_local.samples.shopify.cost import PointBucket, requested_cost
from import_local.samples.shopify.parser import parse
from import_local.samples.shopify.plan import plan_request
from import_local.samples.shopify.syntax import EnumValue, Field, GraphQLSyntaxError, VariableReference


def _plan(query: str, **variables: object):
    return plan_request(parse(query), None, variables)


def _codes(query: str, **variables: object) -> list[str]:
    return [error["extensions"].get("code", "variable") for error in _plan(query, **variables).errors]


def test_values_of_every_kind_are_read() -> None:
    document = parse(
        """query Q($a: [ID!]! = ["x"], $b: Int = 3) { # a comment
          one: f(i: -12, x: 1.5e3, s: "a\\u00e9\\n\\"", n: null, t: true, e: SOME, l: [1, $b], o: {k: $a}) }"""
    )
    [operation] = document.operations
    assert [(item.name, item.type_name, item.default) for item in operation.variables] == [
        ("a", "[ID!]!", ["x"]),
        ("b", "Int", 3),
    ]
    [field] = operation.selections
    assert isinstance(field, Field)
    assert (field.name, field.key) == ("f", "one")
    assert field.arguments == {
        "i": -12,
        "x": 1500.0,
        "s": 'aé\n"',
        "n": None,
        "t": True,
        "e": EnumValue("SOME"),
        "l": [1, VariableReference("b")],
        "o": {"k": VariableReference("a")},
    }


def test_block_strings_lose_their_indentation() -> None:
    [operation] = parse('{ f(q: """\n    {\n      a \\"""\n    }\n  """) }').operations
    field = operation.selections[0]
    assert isinstance(field, Field)
    assert field.arguments["q"] == '{\n  a """\n}'


@pytest.mark.parametrize(
    ("query", "line", "column"),
    [
        ("{ a", 1, 4),
        ("{ }", 1, 4),
        ("{\n  a(b: )\n}", 2, 8),
        ("{ a ? }", 1, 5),
        ("subscription { a }", 1, 1),
        ("query Q($a Int) { b }", 1, 12),
        ('{ a(b: "open) }', 1, 8),
        ("", 1, 1),
        ("{a" * 60, 1, 101),
        ("{ a(b: " + "[" * 60, 1, 57),
    ],
)
def test_a_syntax_error_says_where(query: str, line: int, column: int) -> None:
    with pytest.raises(GraphQLSyntaxError) as caught:
        parse(query)
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ products(first: 1) { nodes { colour } } }", "undefinedField"),
        ("{ products(first: 1) { nodes } }", "selectionMismatch"),
        ("{ products(first: 1) { nodes { title { x } } } }", "selectionMismatch"),
        ("{ products(first: 1, size: 2) { nodes { id } } }", "argumentNotAccepted"),
        ('{ products(first: "1") { nodes { id } } }', "argumentLiteralsIncompatible"),
        ("{ products(first: 1, sortKey: PRICE) { nodes { id } } }", "argumentLiteralsIncompatible"),
        ('{ products(first: 1, sortKey: "ID") { nodes { id } } }', "argumentLiteralsIncompatible"),
        ("{ products { nodes { id } } }", "BAD_REQUEST"),
        ("{ products(first: 251) { nodes { id } } }", "BAD_REQUEST"),
        ("{ products(first: 0) { nodes { id } } }", "BAD_REQUEST"),
        ("{ products(first: 1, last: 1) { nodes { id } } }", "BAD_REQUEST"),
        ("{ product { id } }", "missingRequiredArguments"),
        ("{ products(first: $n) { nodes { id } } }", "variableNotDefined"),
        ("query Q($n: Int) { products(first: 1) { nodes { id } } }", "variableNotUsed"),
        ("{ products(first: 1) { nodes { ... on Shop { name } } } }", "cannotSpreadFragment"),
        ("{ products(first: 1) { nodes { ... on Nothing { name } } } }", "undefinedType"),
        ("{ products(first: 1) { nodes { ...Missing } } }", "useAndDefineFragment"),
        (
            "fragment A on Product { ...A } { products(first: 1) { nodes { ...A } } }",
            "useAndDefineFragment",
        ),
    ],
)
def test_a_wrong_request_is_refused_with_its_code(query: str, code: str) -> None:
    assert _codes(query) == [code]


@pytest.mark.parametrize("value", [None, "5", 1.5, True])
def test_a_variable_of_another_type_is_refused(value: object) -> None:
    errors = _plan("query Q($n: Int!) { products(first: $n) { nodes { id } } }", n=value).errors
    assert "Variable $n of type Int! was provided invalid value" in [error["message"] for error in errors]


def test_the_error_of_an_unknown_field_names_path_and_place() -> None:
    [error] = _plan("query All { products(first: 1) {\n  nodes { colour } } }").errors
    assert error["path"] == ["query All", "products", "nodes", "colour"]
    assert error["locations"] == [{"line": 2, "column": 11}]
    assert error["extensions"]["typeName"] == "Product"


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("{ shop { name } }", 1),
        ("{ products(first: 10) { nodes { id title } } }", 12),
        ("{ products(first: 10) { pageInfo { hasNextPage } edges { cursor node { id } } } }", 12),
        ("{ products(last: 5) { nodes { variants(first: 3) { nodes { price } } } } }", 2 + 5 * (1 + 2 + 3)),
        (
            "{ products(first: 2) { nodes { media(first: 4) { nodes { id ... on MediaImage { image { url } } "
            "... on Video { preview { image { url } } } } } } } }",
            2 + 2 * (1 + 2 + 4 * (1 + 2)),
        ),
        ('{ nodes(ids: ["a", "b"]) { id } }', 2),
        ('mutation { bulkOperationRunQuery(query: "{}") { bulkOperation { id } } }', 10),
    ],
)
def test_the_requested_cost_follows_the_documented_rules(query: str, cost: int) -> None:
    plan = _plan(query)
    assert plan.errors == []
    assert requested_cost(plan) == cost


def test_skip_and_include_are_obeyed() -> None:
    query = (
        "query Q($x: Boolean!) { products(first: 1) "
        "{ nodes { id @skip(if: $x) title @include(if: $x) ...F @include(if: false) } } } "
        "fragment F on Product { handle }"
    )
    [products] = _plan(query, x=True).fields
    assert [field.name for field in products.children[0].children] == ["title"]


def test_the_bucket_restores_with_time_and_never_beyond_its_size() -> None:
    bucket = PointBucket(maximum=1000, rate=100, available=1000, at=0)
    assert bucket.take(900, now=0)
    assert not bucket.take(200, now=0.5)
    assert bucket.status()["currentlyAvailable"] == 150
    assert bucket.take(200, now=1)
    bucket.refill(now=1_000)
    assert bucket.status()["currentlyAvailable"] == 1000
    bucket.give_back(5)
    assert bucket.available == 1000
