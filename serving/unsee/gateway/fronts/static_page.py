"""The page for people at `/`: files of this package, read once, each with a route of its own.

They are public and the same for everybody; what they show comes from the other routes, with the
visitor's own token. Knows neither tenants nor clips.
"""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FILES = {
    "/": "index.html",
    "/page/page.css": "page.css",
    "/page/page.js": "page.js",
    "/page/api.js": "api.js",
    "/page/card.js": "card.js",
    "/page/clip.js": "clip.js",
    "/page/player.js": "player.js",
    "/page/animated_png.js": "animated_png.js",
    "/page/icon.svg": "icon.svg",
    "/page/report_frame.html": "report_frame.html",
    "/page/report_frame.js": "report_frame.js",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; frame-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
FRAME_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; "
    "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
"""For the frame that shows a report: it has no origin, so it sees neither token nor page."""
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


def page_routes() -> list[Route]:
    """A route for each file; there are no others."""
    return [_route(path, name) for path, name in FILES.items()]


def _route(path: str, name: str) -> Route:
    content = (files("unsee.gateway.fronts") / "page" / name).read_bytes()
    policy = FRAME_POLICY if name == "report_frame.html" else POLICY
    headers = HEADERS | {"content-security-policy": policy}
    media_type = TYPES[name[name.rindex(".") :]]

    async def serve(request: Request) -> Response:
        return Response(content, media_type=media_type, headers=headers)

    return Route(path, serve)
