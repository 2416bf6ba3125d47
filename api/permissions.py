from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView


class OnlySuperusersActOnSuperusers(BasePermission):
    """Let nobody but a superuser change a superuser, or end a superuser's sessions."""

    message = _("Only a superuser may do this to a superuser.")

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        return request.method in SAFE_METHODS or request.user.is_superuser or not obj.is_superuser
