"""A page to try a policy on: put items into a visit, see the slate and why."""

import secrets

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from .bundle import Bundle


class Page:
    """The page of one bundle. It loads nothing from elsewhere, and its slates are previews: none is recorded."""

    def __init__(self, bundle: Bundle, *, needs_key: bool) -> None:
        loader = PackageLoader("slatewise.serving", ".")
        environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
        self._template = environment.get_template("page.html.j2")
        categories = sorted({str(name) for name in bundle.catalogue.frame["category"].unique() if name})
        self._facts = {
            "bundle": bundle.id,
            "n_items": bundle.catalogue.n_items,
            "k": bundle.k,
            "categories": categories[:200],
            "needs_key": needs_key,
        }

    def answer(self) -> HTMLResponse:
        """The page; only its own script and style may run."""
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(self._template.render(nonce=nonce, **self._facts), headers=headers)
