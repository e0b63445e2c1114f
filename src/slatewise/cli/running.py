"""`slatewise serve | demo`: a bundle at work, and the whole loop at once."""

from pathlib import Path
from typing import Annotated

import typer

from .console import Reporter, reported
from .inputs import id_of
from .options import Force, Json, Out, Quiet, Seed, TextModel


def serve(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that `export` wrote.")],
    store: Annotated[Path, typer.Option(dir_okay=False, help="SQLite file that keeps what is shown and done.")] = Path(
        "events.db"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
    as_json: Json = False,
) -> None:
    """Serve a bundle over HTTP until Ctrl-C, and keep what was shown and done.

    **Reads** the bundle. The process loads ONNX Runtime and no torch.

    **Writes** the event store: every slate before it is answered, every event before it is acknowledged. The same event
    id may be sent again at no harm. `slatewise ingest --source store` reads it all back.

    **Answers** `POST /v1/recommend` and `POST /v1/events`, `GET /v1/items`, `/healthz`, `/readyz`, `/metrics`, `/docs`
    (the API in full) and a page at `/` to try it on.

    **Assumes** a network that it may trust. Set `SLATEWISE_API_KEY` to ask callers for a key in the header `X-API-Key`,
    and `SLATEWISE_EXPLORE` (a temperature, such as 0.1) to let it try other slates than the best.
    """
    reporter = Reporter(as_json)
    with reported(reporter):
        _serve(reporter, bundle, store, host=host, port=port)


def _serve(reporter: Reporter, bundle: Path, store: Path, *, host: str, port: int) -> None:
    """Serve a bundle until a signal, and say where."""
    id_of(bundle, "bundle")
    from pydantic import ValidationError

    from ..serving.server import serve
    from ..serving.settings import ServerSettings

    try:
        settings = ServerSettings()
    except ValidationError as error:  # in its own words it would show a key
        wrong = (f"SLATEWISE_{one['loc'][0]}".upper() + f": {one['msg']}" for one in error.errors(include_input=False))
        raise typer.BadParameter("; ".join(wrong)) from None

    def announce(address: str) -> None:
        key = " -H 'X-API-Key: ...'" if settings.api_key else ""
        post = f"curl -s{key} -H 'content-type: application/json'"
        event = '{"event_id": "1", "slate_id": "SLATE", "item_id": "ITEM", "event": "click"}'
        reporter.tell(
            f"{bundle} is served at {address} (API: {address}/docs), until Ctrl-C; what happens goes to {store}"
        )
        reporter.tell(f'a slate:   {post} {address}/v1/recommend -d \'{{"shopper_id": "ann"}}\'')
        reporter.tell(f"feedback:  {post} {address}/v1/events -d '{{\"events\": [{event}]}}'")
        catalogue = bundle / "catalogue.parquet"
        reporter.tell(f"read back: slatewise ingest {store} --source store --catalogue {catalogue} --out LOG")
        reporter.result({"address": address, "bundle": str(bundle), "store": str(store)})

    serve(bundle, store, host=host, port=port, settings=settings, announce=announce)


def demo(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="The log, for `--source`; left out, the known-truth shop is used."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", "-s", help="Run on a real log of this kind instead, for instance ga360.")
    ] = None,
    out: Out = Path("slatewise-demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A small shop and short trainings: minutes less, figures worse.")
    ] = False,
    text_model: TextModel = None,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole loop: log, encoders, shoppers, agents, verdict, bundle. Under ten minutes on two cores.

    Without `--source` on the known-truth shop: a made-up shop whose shoppers are known exactly, so that what was
    learnt can be checked against the truth. Killed, it goes on where it was.

    **Writes** a folder for every step into OUT, `evaluation/report.html`, a picture, and a bundle to serve.
    """
    if (source is None) != (path is None):
        raise typer.BadParameter(
            "a real log needs both PATH and --source, for instance: slatewise demo --source ga360 PATH"
        )
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        from .demo import run_demo

        result = run_demo(
            reporter, out, source=source, path=path, quick=quick, text_model=text_model, seed=seed, force=force
        )
        reporter.result(result)
