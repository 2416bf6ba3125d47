"""The protected resources. Each query returns the caller's own rows alone, so other users' don't exist for it."""

from datetime import UTC, datetime
from typing import Any, cast

from django.db import transaction
from django.db.models import Case, F, QuerySet, Value, When
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiJsonRenderer2
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, NotFound, PermissionDenied
from rest_framework.generics import RetrieveUpdateAPIView
from rest_framework.permissions import IsAdminUser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from accounts.models import User, last_sign_in
from accounts.owner import password
from accounts.owner.password import NoResetPossible
from accounts.views import REFUSED_ANSWER, TOO_OLD
from tokens.authentication import JWTAuthentication
from tokens.domain import sessions
from tokens.domain.outages import retried
from tokens.http.operations import OWN, Operation
from tokens.http.requests import client_of
from tokens.models import Reason, SecurityEvent, Session, SessionQuerySet, UTCDateTimeField
from tokens.responses import OBJECT
from tokens.tokens import AccessToken
from tokens.views import AlwaysJSON

from . import filters, responses, serializers
from .browsing import PassAuthentication
from .permissions import ActsOnNobodyAbove
from .schema import schema

END_OF_TIME = datetime.max.replace(tzinfo=UTC)

STAFF_ERRORS = {403: ("permission_denied",), 404: ("not_found",)}


class WithHeading(APIView):
    """Adds a heading, the name of the view or of its rows, and a description to the browsable page.

    DRF would make them from names and docstrings, which are for readers of the code.
    """

    name: Any = None
    description: Any = None
    about: Any = None

    def get_view_name(self) -> str:
        if self.name is not None:
            return str(self.name)
        view: Any = self
        rows = view.queryset.model._meta
        return capfirst(str(rows.verbose_name if view.detail else rows.verbose_name_plural))

    def get_view_description(self, html: bool = False) -> str:
        return str(self.description or self.about)


class RootView(WithHeading):
    name = _("API")
    about = _("The endpoints of this API.")
    authentication_classes = (PassAuthentication,)
    permission_classes = ()
    operations = {"get": Operation("root", "List the endpoints", {200: responses.LINKS}, database=False)}

    def get(self, request: Request) -> Response:
        names = {
            "me": "me",
            "sessions": "session-list",
            "securityEvents": "security-event-list",
            "users": "user-list",
            "schema": "schema",
            "docs": "docs",
        }
        return Response({key: reverse(f"api:{name}", request=request) for key, name in names.items()})


class SchemaView(APIView):
    """The OpenAPI schema of the whole API."""

    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (OpenApiJsonRenderer2, OpenApiJsonRenderer)
    operations = {"get": Operation("schema", "Get this schema", {200: OBJECT}, database=False)}

    def get(self, request: Request) -> Response:
        return Response(schema())


class DocsView(APIView):
    """The page of the schema. Its errors have the same shape as everywhere in the API."""

    schema = None
    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AlwaysJSON

    def get(self, request: Request) -> TemplateResponse:
        return TemplateResponse(request._request, "api/docs.html")


class MeView(WithHeading, RetrieveUpdateAPIView[Any]):
    name = _("Account")
    about = _("Your account.")
    serializer_class = serializers.MeSerializer
    http_method_names = ("get", "patch", "head", "options")
    operations = {
        "get": Operation("me", "Get your account", {200: OWN}),
        "patch": Operation(
            "changeMe",
            "Change your username or address",
            {200: OWN},
            {401: (TOO_OLD, *REFUSED_ANSWER), 429: ("throttled",)},
        ),
    }

    def get_authenticators(self) -> list[Any]:
        guard = JWTAuthentication()
        guard.reads_groups = True
        return [guard, PassAuthentication()]

    def get_object(self) -> Any:
        return self.request.user


class SessionViewSet(
    WithHeading,
    mixins.ListModelMixin,
    mixins.UpdateModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet[Session],
):
    about = _("Your active sessions. An active session's refresh token can still be used.")
    queryset = Session.objects.all()
    serializer_class = serializers.SessionSerializer
    http_method_names = ("get", "patch", "delete", "post", "head", "options")
    operations = {
        "list": Operation("sessions", "List your sessions", {200: OWN}, {404: ("not_found",)}),
        "partial_update": Operation("renameSession", "Rename a session", {200: OWN}, {404: ("not_found",)}),
        "destroy": Operation("revokeSession", "Revoke one session", {204: None}, {404: ("not_found",)}),
        "revoke_others": Operation(
            "revokeOtherSessions", "Revoke every other session", {200: responses.Revoked}, request=None
        ),
    }

    def get_queryset(self) -> QuerySet[Session]:
        live: SessionQuerySet = Session.objects.live().of(cast(User, self.request.user))
        # Sorted first: its place among the others would reveal when it was refreshed. A cursor does not hold that time
        # either.
        current = When(pk=cast(AccessToken, self.request.auth).session.pk, then=Value(END_OF_TIME, UTCDateTimeField()))
        return live.annotate(used_at=Case(current, default=F("rotated_at"))).order_by("-used_at")

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        session = cast(Session, serializer.instance)
        name = serializer.validated_data.get("device_name")
        if name and not sessions.rename(session, name):
            raise NotFound  # it has just ended

    def perform_destroy(self, session: Session) -> None:
        if not sessions.revoke(session, Reason.REVOKED, client_of(self.request), cast(User, self.request.user)):
            raise NotFound  # it has just ended

    @action(
        detail=False,
        methods=["post"],
        url_path="revoke-others",
        name=_("Revoke others"),  # type: ignore[arg-type]  # its stubs know no lazy text
        description=_("Revokes all of your sessions except this one."),
    )
    def revoke_others(self, request: Request) -> Response:
        session = cast(AccessToken, request.auth).session
        count = sessions.revoke_others(session, Reason.REVOKED, client_of(request), session.user)
        return Response({"revoked": count})


class NoReset(APIException):
    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = NoResetPossible.text
    default_code = "no_reset_possible"


class UserViewSet(
    WithHeading,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.UpdateModelMixin,
    viewsets.GenericViewSet[Any],
):
    about = _("All users. Staff only.")
    queryset = User.objects.annotate(last_sign_in=last_sign_in()).prefetch_related("groups")
    serializer_class = serializers.UserSerializer
    permission_classes = (IsAdminUser, ActsOnNobodyAbove)
    filter_backends = (filters.NameSearch, filters.Ordering)
    search_fields = ("username_key", "email_key")
    ordering_fields = {"username": "username_key", "email": "email", "dateJoined": "date_joined"}
    ordering = "username"
    http_method_names = ("get", "patch", "post", "head", "options")
    operations = {
        "list": Operation("users", "List users", {200: OWN}, STAFF_ERRORS, fields=True),
        "retrieve": Operation("user", "Get a user", {200: OWN}, STAFF_ERRORS),
        "partial_update": Operation("changeUser", "Deactivate or reactivate a user", {200: OWN}, STAFF_ERRORS),
        "revoke_sessions": Operation(
            "revokeUserSessions", "Revoke a user's sessions", {200: responses.Revoked}, STAFF_ERRORS, request=None
        ),
        "send_password_reset": Operation(
            "sendPasswordReset",
            "Send a user a password reset link",
            {202: None},
            {400: ("no_reset_possible",), **STAFF_ERRORS, 429: ("throttled",)},
            request=None,
        ),
    }

    def get_queryset(self) -> QuerySet[Any]:
        users = super().get_queryset()
        return users.select_for_update(no_key=True) if self.action == "partial_update" else users

    @retried
    @transaction.atomic
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().partial_update(request, *args, **kwargs)

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        if not serializer.validated_data.get("is_active", True):
            by = cast(User, self.request.user)
            if serializer.instance == by:
                raise PermissionDenied(_("You can't deactivate your own account."))
            sessions.revoke_all(cast(User, serializer.instance), Reason.DEACTIVATED, client_of(self.request), by)
        super().perform_update(serializer)

    @action(
        detail=True,
        methods=["post"],
        url_path="revoke-sessions",
        name=_("Revoke sessions"),  # type: ignore[arg-type]
        description=_("Revokes all sessions of this user."),
    )
    def revoke_sessions(self, request: Request, pk: str) -> Response:
        count = sessions.revoke_all(self.get_object(), Reason.STAFF, client_of(request), cast(User, request.user))
        return Response({"revoked": count})

    @action(detail=True, methods=["post"], url_path="send-password-reset")
    def send_password_reset(self, request: Request, pk: str) -> Response:
        """Mail the user a link to choose a new password. The answer doesn't show it."""
        try:
            password.send_reset(self.get_object(), client_of(request))
        except NoResetPossible as error:
            raise NoReset from error
        return Response(status=status.HTTP_202_ACCEPTED)


class SecurityEventViewSet(WithHeading, mixins.ListModelMixin, viewsets.GenericViewSet[SecurityEvent]):
    about = _("Your security log, newest first.")
    queryset = SecurityEvent.objects.order_by("-created_at")
    serializer_class = serializers.SecurityEventSerializer
    operations = {
        "list": Operation(
            "securityEvents",
            "Read the security log",
            {200: OWN},
            STAFF_ERRORS,
            parameters=(serializers.LogSerializer,),
            fields=True,
        ),
    }

    def get_queryset(self) -> QuerySet[SecurityEvent]:
        asked = serializers.LogSerializer(data=self.request.query_params)
        asked.is_valid(raise_exception=True)
        owner = asked.validated_data.get("user", self.request.user.pk)
        if owner != self.request.user.pk and not self.request.user.is_staff:
            raise PermissionDenied(_("Only staff can read another user's log."))
        return super().get_queryset().filter(user_id=owner)
