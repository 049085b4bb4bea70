"""``/openapi.json`` and ``/docs``: the description of the edge, as JSON and as a page.

The page is made from the document, has no script, and loads nothing: it works offline.
"""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from connectors.edge.openapi import as_json, document
from streams.settings import Settings

Node = Mapping[str, Any]

_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
  :root { color-scheme: light dark;
          --quiet: light-dark(#5c6068, #a3a9b4); --rule: light-dark(#d9d6cf, #343942); }
  body { max-width: 60rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 3vw, 3rem);
         font: 16px/1.5 system-ui, sans-serif; }
  h1 { font-size: 1.4rem; }
  h2 { font-size: 1.15rem; margin-top: 2.5rem; }
  h3 { font-size: 1rem; margin-top: 2rem; }
  code, pre { font: .9em/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
  pre { overflow-x: auto; padding: .75rem; border: 1px solid var(--rule); border-radius: .4rem; }
  table { width: 100%; border-collapse: collapse; }
  th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0;
           border-bottom: 1px solid var(--rule); }
  details { margin: .4rem 0; }
  summary { cursor: pointer; }
  .quiet { color: var(--quiet); }
"""


def document_routes(settings: Settings) -> list[Route]:
    """The routes of the document and its page; both are made once."""
    text, html = as_json(settings), page(document(settings))

    async def openapi(request: Request) -> Response:
        return Response(text, media_type="application/json")

    async def docs(request: Request) -> Response:
        return HTMLResponse(html, headers={"content-security-policy": _SECURITY_POLICY})

    return [Route("/openapi.json", openapi), Route("/docs", docs)]


def page(found: Node) -> str:
    """The document as HTML."""
    info = found["info"]
    body = "\n".join([*_operations(found), *_models(found)])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(info["title"])}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(info["title"])} <span class="quiet">{escape(info["version"])}</span></h1>
<p>{escape(info["description"])} <a href="/openapi.json">openapi.json</a></p>
{body}
</body>
</html>
"""


def _operations(found: Node) -> Iterator[str]:
    for tag in found["tags"]:
        yield f"<h2>{escape(tag['description'])}</h2>"
        for path, item in found["paths"].items():
            for method, operation in item.items():
                if tag["name"] in operation["tags"]:
                    yield from _operation(found, f"{method.upper()} {path}", operation)


def _operation(found: Node, title: str, operation: Node) -> Iterator[str]:
    yield f'<h3 id="{operation["operationId"]}"><code>{escape(title)}</code></h3>'
    yield f"<p>{escape(operation.get('summary', ''))}</p>"
    parameters = [_resolved(found, each) for each in operation.get("parameters", ())]
    keys = [name for each in operation["security"] for name in each]
    rows = [(key, "header", "Your API key; required.") for key in keys]
    rows += [(each["name"], each["in"], each.get("description", "")) for each in parameters]
    yield _table(("parameter", "in", ""), rows)
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{escape(media_type)}</code>, {_shape(content['schema'])}</p>"
        for name, example in content.get("examples", {}).items():
            sample = json.dumps(example["value"], indent=2, ensure_ascii=False)
            yield f"<details><summary>{escape(name)}</summary><pre>{escape(sample)}</pre></details>"
    answers = []
    for status, each in operation["responses"].items():
        answer = _resolved(found, each)
        more = sorted({*_codes(answer), *answer.get("headers", {})})
        answers.append((status, ", ".join(more), answer["description"]))
    yield _table(("status", "codes and headers", ""), answers)


def _codes(answer: Node) -> list[str]:
    """The codes of an error answer: the last part of its schema narrows them."""
    schemas = [content["schema"] for content in answer.get("content", {}).values()]
    return [
        code
        for schema in schemas
        if "allOf" in schema
        for code in schema["allOf"][-1]["properties"]["code"]["enum"]
    ]


def _models(found: Node) -> Iterator[str]:
    yield "<h2>Bodies</h2>"
    for name, schema in found["components"]["schemas"].items():
        yield f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3>'
        yield f"<p>{escape(schema.get('description', ''))}</p>"
        required = schema.get("required", ())
        rows = [
            (field, "required" if field in required else "", _shape(each))
            for field, each in schema.get("properties", {}).items()
        ]
        yield _table(("field", "", "type"), rows, is_html=True) if rows else f"<p>{_shape(schema)}</p>"


def _shape(schema: Node) -> str:
    """A schema as a line of HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for join in ("anyOf", "allOf"):
        if join in schema:
            return (" or " if join == "anyOf" else " and ").join(map(_shape, schema[join]))
    words = []
    for key, value in schema.items():
        if key == "items":
            words.append(f"of ({_shape(value)})")
        elif key in ("properties", "additionalProperties") and isinstance(value, dict):
            inner = value if key == "properties" else {"any name": value}
            words.append(
                ", ".join(
                    f"<code>{escape(name)}</code>: {_shape(each)}" for name, each in inner.items()
                )
            )
        elif key == "type":
            words.insert(0, escape(value if isinstance(value, str) else " or ".join(value)))
        elif key not in ("required", "additionalProperties"):
            words.append(f"{key} <code>{escape(json.dumps(value))}</code>")
    return " ".join(words)


def _table(heads: tuple[str, ...], rows: list[tuple[str, str, str]], is_html: bool = False) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    lines = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td>"
        f"<td>{about if is_html else escape(about)}</td></tr>"
        for name, kind, about in rows
    ]
    return f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"


def _resolved(found: Node, node: Node) -> Node:
    """The component that a reference names, or the node itself."""
    if "$ref" not in node:
        return node
    _, *parts = node["$ref"].split("/")
    for part in parts:
        found = found[part]
    return found
