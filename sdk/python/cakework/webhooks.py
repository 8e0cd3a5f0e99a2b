"""Events as an endpoint receives them."""

from __future__ import annotations

from collections.abc import Mapping

from standardwebhooks import Webhook, WebhookVerificationError

from . import models

__all__ = ["WebhookVerificationError", "verify_webhook"]


def verify_webhook(body: bytes | str, headers: Mapping[str, str], secret: str) -> models.Event:
    """The event of a request to an endpoint, once its signature was verified and it is fresh (five minutes). `body` is the request's
    body as it came. It may come twice: remember the header `webhook-id`.

    Raises `WebhookVerificationError` where it is not of who has the secret, or old: answer 400 and do nothing."""
    plain = {name.lower(): value for name, value in headers.items()}
    return models.Event.model_validate(Webhook(secret).verify(body, plain))
