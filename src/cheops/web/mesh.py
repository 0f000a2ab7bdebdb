"""The mesh API: what agents of other sites may ask this one. Envoy has checked their certificates."""

from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse

from cheops import __version__
from cheops.ports import KeptScopes


def mesh_api(kept: KeptScopes) -> FastAPI:
    """The ASGI application of the mesh API."""
    app = FastAPI(title="Cheops mesh API", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/kept/{uuid}", response_class=PlainTextResponse)
    async def recall(uuid: str) -> str:
        """The scope that is kept under a request id."""
        text = kept.recall(uuid)
        if text is None:
            raise HTTPException(404, "no scope is kept under this id")
        return text

    return app
