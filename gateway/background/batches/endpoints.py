"""The endpoints that a batch's lines may ask for: the same as over HTTP, read and written as their records say."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.errors import BadRequest
from millstream.common.job import ModelName
from millstream.gateway.apis.endpoint import WholeWriter, context_of
from millstream.gateway.apis.registry import ENDPOINTS
from millstream.gateway.apis.responses.input.items import Item, shown_images
from millstream.gateway.apis.responses.read import prepare_response
from millstream.gateway.errors.validation import shaped
from millstream.gateway.requests.prepared import PreparedRequest
from millstream.gateway.requests.vision import Vision
from millstream.gateway.services.caller import Caller
from millstream.gateway.services.image_fetcher import FetchedImages
from millstream.gateway.settings import IntakeSettings

MEANINGLESS = ("stream", "background", "conversation")  # in a batch: its lines have no order


@dataclass(frozen=True, slots=True)
class Prepared:
    """A line's request after all checks, and how its answer is written."""

    order: PreparedRequest
    whole: WholeWriter


@dataclass(frozen=True, slots=True)
class LineReader:
    """Reads the bodies of one batch's lines."""

    endpoint: str
    key: Callable[[], ApiKey]  # as it is now
    settings: IntakeSettings
    resolve: Callable[[str], ModelName]  # the model a line means: an alias may have changed its meaning since
    seeing: frozenset[str] = frozenset()  # the models that read images

    def images(self, fields: dict[str, Any], history: list[Item]) -> list[str]:
        """Returns the images that a line shows to a model that sees. Raises `BadRequest` naming the field at fault."""
        if not self.seeing:
            return []
        endpoint = ENDPOINTS[self.endpoint]
        return [*shown_images(history), *endpoint.images(shaped(endpoint.shape, fields))]

    def prepare(self, fields: dict[str, Any], history: list[Item], images: FetchedImages | None = None) -> Prepared:
        """`history`: the conversation before a response's turn; no other endpoint has one. `images`: those that the
        line names by address; None: they will be fetched when it runs. Raises `BadRequest` naming the field at
        fault."""
        if (field := next((name for name in MEANINGLESS if fields.get(name)), None)) is not None:
            raise BadRequest(f"'{field}' has no meaning in a batch; leave it out.", param=field)
        endpoint = ENDPOINTS[self.endpoint]
        body = shaped(endpoint.shape, fields)
        caller = Caller(
            self.key(), self.settings.retention, resumable=True, prefixes_shared=self.settings.share_prefixes
        )
        model, settings = self.resolve(body.model), self.settings
        context = context_of(endpoint.id_family, model, caller, settings)
        if model in self.seeing:
            context = replace(context, vision=self._vision(images))
        order = prepare_response(body, context, history) if history else endpoint.read(body, context)
        return Prepared(order, endpoint.whole(body))

    def _vision(self, images: FetchedImages | None) -> Vision:
        most = (self.settings.max_image_bytes, self.settings.max_image_pixels)
        return Vision(*most, later=True) if images is None else Vision(*most, images.fetched, images.failed)
