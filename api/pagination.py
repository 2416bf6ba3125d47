from typing import Any

from django.core import signing
from django.db.models import Q
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

Position = list[str]
"""The position of a row: the value of the list's order field, and the primary key."""


class Pagination(CursorPagination):
    """Page a queryset in its own order: by its first field, and by the primary key among equals.

    So no row is missing or repeated, however many are equal or come and go meanwhile. The field must not be null.
    """

    page_size = 50
    max_page_size = 100
    page_size_query_param = "pageSize"

    page: list[Any]

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any]:
        self.request = request
        size = self.get_page_size(request) or self.page_size
        order = str((queryset.query.order_by or queryset.model._meta.ordering)[0])
        self.field = order.removeprefix("-")
        # Signed for this list and order, so only values from this list get into the query.
        self.signer = signing.Signer(salt=f"{__name__}:{request.path}:{order}")
        backwards, position = self._read_cursor()
        descending = order.startswith("-") != backwards
        if position:
            queryset = queryset.filter(self._beyond(position, descending))
        sign = "-" if descending else ""
        rows = list(queryset.order_by(f"{sign}{self.field}", f"{sign}pk")[: size + 1])
        more, self.page = len(rows) > size, rows[:size]
        if backwards:
            self.page.reverse()
        self.has_next, self.has_previous = (bool(position), more) if backwards else (more, bool(position))
        self.display_page_controls = self.has_next or self.has_previous
        return self.page

    def get_next_link(self) -> str | None:
        return self._link(self.page[-1:], backwards=False) if self.has_next else None

    def get_previous_link(self) -> str | None:
        return self._link(self.page[:1], backwards=True) if self.has_previous else None

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        properties = {"next": link, "previous": link, "results": schema}
        return {"type": "object", "properties": properties, "required": list(properties)}

    def _beyond(self, position: Position, descending: bool) -> Q:
        value, key = position
        side = "lt" if descending else "gt"
        # An index on the field can use the first condition.
        return Q(**{f"{self.field}__{side}e": value}) & (
            Q(**{f"{self.field}__{side}": value}) | Q(**{f"pk__{side}": key})
        )

    def _link(self, edge: list[Any], *, backwards: bool) -> str:
        # If a page has become empty since its link was made, the next page is the first, and the previous one the last.
        position = next(([str(getattr(row, self.field)), str(row.pk)] for row in edge), None)
        cursor = self.signer.sign_object([backwards, position])
        return replace_query_param(self.request.build_absolute_uri(), self.cursor_query_param, cursor)

    def _read_cursor(self) -> tuple[bool, Position | None]:
        cursor = self.request.query_params.get(self.cursor_query_param)
        if cursor is None:
            return False, None
        try:
            backwards, position = self.signer.unsign_object(cursor)
        except signing.BadSignature as error:
            raise NotFound(self.invalid_cursor_message) from error
        return backwards, position
