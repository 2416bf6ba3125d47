from collections.abc import Sequence
from typing import Any, cast

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from rest_framework import filters
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.serializers import CharField

from accounts import names

SEARCH_LENGTH = 320
"""Characters: the longest that an email address can be. Each word lengthens the statement, which databases limit."""


class NameSearch(filters.SearchFilter):
    """Find users who have each word in one of the view's `search_fields`, which hold keys of names."""

    search_description: Any = _("Search terms. Results match all of them, ignoring case.")
    default_lookup = "contains"

    def get_search_terms(self, request: Request) -> list[str]:
        field = CharField(allow_blank=True, max_length=SEARCH_LENGTH)
        try:
            field.run_validation(request.query_params.get(self.search_param, ""))
        except ValidationError as error:
            raise ValidationError({self.search_param: error.detail}) from error
        return [names.key(term) for term in super().get_search_terms(request)]


class Ordering(filters.OrderingFilter):
    """Order by one of the view's `ordering_fields`, a dictionary from names on the wire to fields."""

    ordering_description: Any = _("The field to sort by. Prefix it with a minus sign for descending order.")

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        name = cast(Sequence[str], self.get_ordering(request, queryset, view))[0]
        sign = "-" if name.startswith("-") else ""
        return queryset.order_by(sign + view.ordering_fields[name.removeprefix("-")])

    def remove_invalid_fields(self, queryset: QuerySet[Any], fields: Any, view: Any, request: Request) -> list[str]:
        known = super().remove_invalid_fields(queryset, fields, view, request)
        if known != fields:
            choices = ", ".join(view.ordering_fields)
            raise ValidationError({self.ordering_param: [_("Choose one of: %s.") % choices]})
        return known
