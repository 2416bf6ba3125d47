from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from tokens.domain.authority import may_act_on


class ActsOnNobodyAbove(BasePermission):
    """Refuse changes to a user who has more permissions, and to that user's sessions."""

    message = _("This user has permissions that you don't have.")

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        return request.method in SAFE_METHODS or may_act_on(request.user, obj)
