"""The Verify API: the response that Twilio would give to a request, before any fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.simulator import sids
from exporter.simulator.answers import SimulatedResponse, encoded, error, json_answer, not_found, unauthorized
from exporter.simulator.factors import entity_path, service_path
from exporter.simulator.paging import MAX_PAGE_SIZE, PagingError, page_of, read_paging
from exporter.simulator.target import Endpoint, Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.simulator.credentials import Credentials
    from exporter.simulator.factors import SimulatedFactor
    from exporter.simulator.oauth import OAuthApp
    from exporter.simulator.paging import SimulatedPage
    from exporter.simulator.world import SimulatedApi


class VerifyApi:
    """Answers requests from a simulated account; ``base_url`` is the prefix of links in responses.

    ``max_page_size`` is the limit for PageSize; Twilio's API reference says 1000, its error pages say 25.
    """

    def __init__(
        self, world: SimulatedApi, credentials: Credentials, oauth: OAuthApp, *, max_page_size: int = MAX_PAGE_SIZE
    ) -> None:
        self.base_url = ""
        self.max_page_size = max_page_size
        self._world = world
        self._credentials = credentials
        self._oauth = oauth
        self._bodies: dict[str, tuple[SimulatedFactor, str, bytes]] = {}

    def answer(self, method: str, target: Target, authorization: str, now: float) -> SimulatedResponse:
        """Return the response to a request at this Unix time; requests for tokens are answered by ``oauth``."""
        if not target.path.startswith("/v2/"):
            return not_found(target.path)
        if not self._credentials.accept(authorization) and not self._oauth.accept(authorization, now):
            return unauthorized()
        if method != "GET":
            return error(405)
        match target.operation:
            case Endpoint.FETCH:
                return self._fetch(target)
            case Endpoint.LIST:
                return self._list(target)
            case Endpoint.LIST_ENTITIES:
                return self._list_entities(target)
            case Endpoint.SERVICE:
                return self._service(target)
            case Endpoint.OTHER | Endpoint.TOKEN:
                return not_found(target.path)

    def _fetch(self, target: Target) -> SimulatedResponse:
        factor = self._world.factors.get(target.factor_sid)
        if (
            factor is not None
            and factor.exists
            and factor.service_sid == target.service_sid
            and factor.identity == target.identity
            and not self._world.entities_by_sid[factor.entity_sid].deleted
            and not self._world.services[factor.service_sid].deleted
        ):
            return SimulatedResponse(200, self._body(factor))
        return self._missing(target)

    def _list(self, target: Target) -> SimulatedResponse:
        entity = self._world.entities.get((target.service_sid, target.identity))
        if entity is None or entity.deleted or self._world.services[entity.service_sid].deleted:
            return self._missing(target)
        factors = [self._world.factors[sid] for sid in entity.factor_sids]
        try:
            paging = read_paging(target.query, self.max_page_size)
            gone = frozenset(factor.sid for factor in factors if not factor.exists)
            page = page_of(entity.factor_sids, gone, paging)
        except PagingError as refused:
            return error(400, refused.code, str(refused))
        bodies = [self._body(self._world.factors[sid]) for sid in page.sids]
        return self._page("factors", bodies, page, entity_path(entity.service_sid, entity.identity))

    def _list_entities(self, target: Target) -> SimulatedResponse:
        service = self._world.services.get(target.service_sid)
        if service is None or service.deleted:
            return self._missing(target)
        entities = self._world.entities_by_sid
        listed = self._world.entity_sids(service.sid)
        try:
            paging = read_paging(target.query, self.max_page_size, sids.ENTITY)
            page = page_of(listed, frozenset(sid for sid in listed if entities[sid].deleted), paging)
        except PagingError as refused:
            return error(400, refused.code, str(refused))
        bodies = [encoded(entities[sid].document(self.base_url)) for sid in page.sids]
        return self._page("entities", bodies, page, f"{service_path(service.sid)}/Entities")

    def _page(self, key: str, bodies: Iterable[bytes], page: SimulatedPage, path: str) -> SimulatedResponse:
        """Return a page of a list in Twilio's format; its links are absolute."""
        url = f"{self.base_url}{path}"
        meta = {
            "page": page.number,
            "page_size": page.size,
            "first_page_url": f"{url}?{page.first_query}",
            "previous_page_url": page.previous_query and f"{url}?{page.previous_query}",
            "url": f"{url}?{page.query}",
            "next_page_url": page.next_query and f"{url}?{page.next_query}",
            "key": key,
        }
        return SimulatedResponse(200, b'{"%b":[%b],"meta":%b}' % (key.encode(), b",".join(bodies), encoded(meta)))

    def _service(self, target: Target) -> SimulatedResponse:
        service = self._world.services.get(target.service_sid)
        if service is None or service.deleted:
            return self._missing(target)
        return json_answer(service.document(self.base_url))

    def _missing(self, target: Target) -> SimulatedResponse:
        """Return 400 with the documented code for a malformed part of the path, else 404."""
        if not sids.is_sid(target.service_sid, sids.SERVICE):
            return error(400, 60363, "Service SID invalid or not provided")
        if target.operation in (Endpoint.SERVICE, Endpoint.LIST_ENTITIES):
            return not_found(target.path)
        known = (target.service_sid, target.identity) in self._world.entities
        if not known and not sids.is_identity(target.identity):
            return error(400, 60366, "Entity invalid or not provided")
        if target.operation is Endpoint.FETCH and not sids.is_sid(target.factor_sid, sids.FACTOR):
            return error(400, 60362, "Factor SID invalid or not provided")
        return not_found(target.path)

    def _body(self, factor: SimulatedFactor) -> bytes:
        """Return a factor's JSON, encoded again only when the factor changes."""
        kept = self._bodies.get(factor.sid)
        if kept is not None and kept[0] is factor and kept[1] is self.base_url:
            return kept[2]
        body = encoded(factor.document(self.base_url))
        self._bodies[factor.sid] = (factor, self.base_url, body)
        return body
