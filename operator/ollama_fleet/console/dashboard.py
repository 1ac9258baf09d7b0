"""The dashboard: a few static files that come with the package, and how they are served."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""What is part of the page, by the ending of its name."""
HEADERS = {
    # whoever has it asks whether it is the same still, so a new version shows at once
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On each of the files: they run what is theirs alone, and no other page holds them."""
START = "index.html"


@dataclass(frozen=True)
class File:
    """A file of the page; ``name`` as it is asked for under /page/."""

    name: str
    content: bytes

    @property
    def type(self) -> str:
        """Its media type."""
        return TYPES[self.name.rpartition(".")[2]]

    @property
    def tag(self) -> str:
        """Changes with its content."""
        return f'W/"{sha256(self.content).hexdigest()[:20]}"'


def page() -> list[File]:
    """Every file of the page, by name."""
    return sorted(_files(files(__package__) / "page"), key=lambda file: file.name)


def _files(folder: Traversable, prefix: str = "") -> Iterator[File]:
    for one in folder.iterdir():
        if one.is_dir():
            yield from _files(one, f"{prefix}{one.name}/")
        elif one.name.rpartition(".")[2] in TYPES:
            yield File(prefix + one.name, one.read_bytes())


def routes() -> list[Route]:
    """The page at /, what it is made of under /page/."""
    return [_route("/" if file.name == START else f"/page/{file.name}", file) for file in page()]


def _route(path: str, file: File) -> Route:
    headers = {**HEADERS, "ETag": file.tag, "Vary": "Accept-Encoding"}
    small = gzip.compress(file.content, mtime=0)

    async def answer(request: Request) -> Response:
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            more = {**headers, "Content-Encoding": "gzip"}
            return Response(small, headers=more, media_type=file.type)
        return Response(file.content, headers=headers, media_type=file.type)

    return Route(path, answer)
