"""Images, VMs and cached VMs for running other people's code: the client of Cakework's API.

>>> from cakework import Cakework
>>> with Cakework() as cakework:
...     vm = cakework.start_vm(image_id=image_id, port=8080)
"""

from . import errors, models
from ._async.client import AsyncCakework
from ._sync.client import Cakework
from .errors import CakeworkError
from .webhooks import WebhookVerificationError, verify_webhook

__all__ = [
    "AsyncCakework",
    "Cakework",
    "CakeworkError",
    "WebhookVerificationError",
    "errors",
    "models",
    "verify_webhook",
]
