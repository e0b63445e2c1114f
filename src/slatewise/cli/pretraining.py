"""`slatewise pretrain | grow`: what reads sessions, and what makes it know other items."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Reporter, checked, reported
from .encoding import Transfer, grow_step, next_item_step, pretrain_step, settings_in
from .inputs import HELD_OUT, Selection
from .options import EncoderFolder, Force, Json, Log, Out, Quiet, ShoppersOf
from .showing import show_next_item

DATA, MODEL, TRAINING = "What it learns from", "What it is made of", "How it is trained"
TRANSFER, TRACKING = "What it begins with", "Where figures go"


def _number(help_: str, default: object, panel: str, minimum: float | None = None) -> Any:
    """An option of the settings; what is left out is told by --config or is the default shown, `PretrainConfig`'s."""
    return typer.Option(help=help_, min=minimum, show_default=str(default), rich_help_panel=panel)


def pretrain(
    log: Log,
    out: Out,
    held_out: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.9,
            help="Share of the sessions, the latest, that it does not see and is judged on.",
            rich_help_panel=DATA,
        ),
    ] = HELD_OUT,
    shoppers: Annotated[
        ShoppersOf, typer.Option(help="Which half of the shoppers to learn from.", rich_help_panel=DATA)
    ] = ShoppersOf.agent,
    width: Annotated[
        int | None, _number("Width of states and item vectors.", "64, or 128 beyond 2,000 items", MODEL, 4)
    ] = None,
    layers: Annotated[int | None, _number("Transformer layers.", 2, MODEL, 1)] = None,
    heads: Annotated[int | None, _number("Attention heads; WIDTH is an even multiple.", 4, MODEL, 1)] = None,
    window: Annotated[int | None, _number("Tokens that a token looks back on.", 50, MODEL, 1)] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="What a token is made of, by commas; there is also gap, the time since the token before.",
            show_default="text,id,category,brand,price,event,query",
            rich_help_panel=MODEL,
        ),
    ] = None,
    epochs: Annotated[
        int | None, _number("Passes over the sessions at most; stops early.", "12, or 5 in a large log", TRAINING, 1)
    ] = None,
    patience: Annotated[
        int | None, _number("Passes without a better validation figure before it stops.", 3, TRAINING, 1)
    ] = None,
    batch_tokens: Annotated[
        int | None, _number("Tokens a step, at most; fewer in a small log.", 2048, TRAINING, 1)
    ] = None,
    half_life: Annotated[
        float | None,
        _number("Share of the sessions after which an older one is learnt from half as often.", 0.3, TRAINING),
    ] = None,
    refresh: Annotated[
        float | None,
        _number(
            "Steps at the end that learn from the latest sessions too, as a share of those before; 0 for none.",
            0.5,
            TRAINING,
            0,
        ),
    ] = None,
    learning_rate: Annotated[float | None, _number("Highest learning rate; it rises, then falls.", 0.002, TRAINING)] = (
        None
    ),
    dropout: Annotated[float | None, _number("Share of activations left out; more for small logs.", 0.3, TRAINING)] = (
        None
    ),
    seed: Annotated[
        int | None, _number("Decides everything random; the same seed, the same weights.", 0, TRAINING, 0)
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where it runs: `cpu`, `cuda`, `cuda:1`.", rich_help_panel=TRAINING)
    ] = "cpu",
    config: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="JSON with any of the settings, or an encoder's folder to repeat its own; options go first.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    text_model: Annotated[
        str | None,
        typer.Option(
            help="Hub id or folder of the text model, such as `intfloat/multilingual-e5-small`; all-MiniLM-L6-v2 "
            "(English) if left out.",
            rich_help_panel=TRANSFER,
        ),
    ] = None,
    lora: Annotated[
        bool,
        typer.Option(
            "--lora",
            help="Fine-tune the text model on the same sessions first, into OUT-text; kept only if it foretells later "
            "sessions better. Minutes on a processor.",
            rich_help_panel=TRANSFER,
        ),
    ] = False,
    lora_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of --lora at most.", show_default="300", rich_help_panel=TRANSFER)
    ] = None,
    warm_start: Annotated[
        Path | None,
        typer.Option(
            help="Begin with this encoder's weights: of another shop, or of this one some months ago. Same shape, same "
            "text model.",
            rich_help_panel=TRANSFER,
        ),
    ] = None,
    log_to: Annotated[
        str | None,
        typer.Option(
            help="Figures of the training into OUT/logs, as `csv`, `json`, `tensorboard`; several by commas.",
            rich_help_panel=TRACKING,
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pretrain the session encoder: what reads a session as it goes, and foretells the next item.

    A Transformer reads a session token by token: an item, how far the shopper went with it, the time since the token
    before. An item is what its text says (read by a pretrained text model), its category, brand and price, and what
    its sessions taught of it. Learnt is what comes next, whether anything does, and whether something will be bought;
    recent sessions count for more, and at last the latest, by which it chose when to stop, are learnt from too.

    **Reads** the log, but for the latest sessions, which it is judged on.

    **Writes** the encoder with its catalogue and a model card, and prints how well it foretells the next item on the
    held-out sessions, beside item-kNN and popularity. Killed, it goes on from the last full pass and ends with the same
    weights. `fit`, `train` and `export` read it; so does transformers' `AutoModel.from_pretrained`, once
    `slatewise.encoders.session` is imported.

    **Assumes** that the agent's encoder should learn from one half of the shoppers, so that the simulated shopper can
    have one of its own (`fit`), and that item texts are English unless `--text-model` names another model.
    """
    reporter = Reporter(as_json, quiet)
    given = {
        "width": width,
        "layers": layers,
        "heads": heads,
        "window": window,
        "parts": _named(parts),
        "epochs": epochs,
        "patience": patience,
        "batch_tokens": batch_tokens,
        "half_life": half_life,
        "refresh": refresh,
        "learning_rate": learning_rate,
        "dropout": dropout,
        "seed": seed,
    }
    if lora_steps and not lora:
        raise typer.BadParameter("--lora-steps is for --lora")
    with reported(reporter):
        with checked():
            settings = settings_in(config) if config else {}
        settings |= {name: value for name, value in given.items() if value is not None}
        facts = pretrain_step(
            reporter,
            log,
            out,
            selection=Selection(held_out, "train", shoppers.value),
            settings=settings,
            transfer=Transfer(
                text_model=text_model,
                warm_start=warm_start,
                fine_tune=({"steps": lora_steps} if lora_steps else {}) if lora else None,
            ),
            device=device,
            log_to=_named(log_to) or (),
            force=force,
        )
        facts["next_item"] = next_item_step(reporter, log, out, held_out)
        show_next_item(reporter, facts["next_item"])
        reporter.tell(f"encoder: {out} (its card: {out / 'README.md'})")
        reporter.result({"out": str(out), **facts})


def grow(
    log: Log,
    encoder: EncoderFolder,
    out: Out,
    text_model: Annotated[
        str | None,
        typer.Option("--text-model", help="The text model it was pretrained with, if it has moved since."),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make an encoder know a changed catalogue, without training: items added, gone, or described anew.

    **Reads** the catalogue of LOG, and an encoder. Items that it knows by their id keep what their sessions taught of
    them; new ones go by their text, category, brand and price alone.

    **Writes** an encoder like any other. States of old histories, and vectors of items whose description is the same,
    are what they were.

    **Assumes** that ids still mean the same items, and that what shoppers do has not changed: pretrain anew when it
    has, for instance with `--warm-start`.
    """
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        facts = grow_step(reporter, log, out, encoder_folder=encoder, text_model=text_model, force=force)
        kept, new, gone = (facts[f"items_{what}"] for what in ("kept", "new", "gone"))
        reporter.tell(f"{kept:,} items kept, {new:,} new, {gone:,} gone: {out}")
        reporter.result({"out": str(out), **facts})


def _named(text: str | None) -> tuple[str, ...] | None:
    """`"a, b"` -> `("a", "b")`."""
    return None if text is None else tuple(filter(None, (part.strip() for part in text.split(","))))
