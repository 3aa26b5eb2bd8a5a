"""The page that explains the endpoints. It needs neither a network nor scripts."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter()

EXAMPLES = {
    "/health": "curl {url}/health",
    "/metrics": "curl {url}/metrics",
    "/models": "curl {url}/models",
    "/sample": "curl {url}/sample -H 'Content-Type: application/json' -d '{{\"n\": 16, \"seed\": 1}}' -o sheet.png",
    "/translate": "curl {url}/translate -F image=@photo.jpg -o translated.png",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
body { color: #222; background: #fff }
h2 { margin: 2.5rem 0 .5rem; font-size: 1.1rem }
code, pre { font: 14px/1.5 ui-monospace, monospace }
pre { background: #f4f4f4; padding: .6rem .8rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% }
tr { border-top: 1px solid #ddd }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0 }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 }
  pre { background: #262626 }
  a { color: #8bf }
}
"""


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Return the page."""
    schema = request.app.openapi()
    parts = [
        _endpoint(path, way, about, schema, str(request.base_url).rstrip("/")) for path, way, about in _ways(schema)
    ]
    title = escape(schema["info"]["title"])
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{escape(schema['info'].get('summary', ''))}."
        ' The same for programs: <a href="openapi.json">openapi.json</a>.</p>' + "".join(parts) + "</html>"
    )


def _ways(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, way, about) for path, ways in schema["paths"].items() for way, about in ways.items()]


def _endpoint(path: str, way: str, about: dict[str, Any], schema: dict[str, Any], url: str) -> str:
    title = f"<h2><code>{way.upper()} {escape(path)}</code></h2><p>{escape(about.get('summary', ''))}.</p>"
    example = f"<pre>{escape(EXAMPLES[path].format(url=url))}</pre>" if path in EXAMPLES else ""
    rows = []
    for content in about.get("requestBody", {}).get("content", {}).values():
        body = content["schema"]
        body = schema["components"]["schemas"][body["$ref"].rpartition("/")[2]] if "$ref" in body else body
        for key, value in body.get("properties", {}).items():
            usual = "needed" if key in body.get("required", []) else value.get("default")
            usual = "" if usual in (None, "") else str(usual)
            cells = f"<code>{escape(key)}</code>", f"<code>{escape(usual)}</code>", escape(value.get("description", ""))
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells))
    table = f"<table><tr><th>key<th>usually<th>{''.join(rows)}</table>" if rows else ""
    return title + example + table
