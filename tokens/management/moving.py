"""Finds what a project that uses SimpleJWT still has to change by hand, and where."""

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage
from django.urls import Resolver404, URLResolver, get_resolver, resolve
from django.utils.module_loading import import_string
from rest_framework.authentication import BaseAuthentication
from rest_framework_simplejwt import authentication as simplejwt_authentication
from rest_framework_simplejwt import serializers as simplejwt_serializers
from rest_framework_simplejwt import views as simplejwt_views

from .. import authentication, checks, serializers, views
from ..conf import DEFAULT_LEGACY

PACKAGE = __package__.rpartition(".")[0]
OWN_FOLDER = Path(__file__).resolve().parents[1]

THEIRS = "rest_framework_simplejwt"

SKIPPED = {"node_modules", "site-packages", "migrations", "__pycache__"}

IGNORE = "# checksimplejwt: ignore"
"""The comment at the end of a line whose finding was reviewed and is fine."""

SAME_NAME = ("tokens", "views", "serializers", "authentication", "exceptions")
"""The modules whose public names are all in this package too."""

WAYS = {
    "OutstandingToken": f"Sessions replace it: query Session of {PACKAGE}.models.",
    "BlacklistedToken": f"Sessions replace it: call blacklist() of the refresh token, or revoke_all() of "
    f"{PACKAGE}.domain.sessions.",
    "OutstandingTokenAdmin": "Remove it: sessions have an admin.",
    "BlacklistedTokenAdmin": "Remove it: sessions have an admin.",
    "TokenUser": f"Import it from {PACKAGE}.models.",
    "api_settings": f"Read the setting SIMPLE_JWT of django.conf.settings; the lifetimes are AccessToken.lifetime and "
    f"RefreshToken.lifetime of {PACKAGE}.tokens.",
    "aware_utcnow": "Call now() of django.utils.timezone.",
    "token_backend": "Construct AccessToken or RefreshToken from the text of a token.",
    "TokenBackend": "The keys are settings: TOKENS_SIGNING_KEYS, or SECRET_KEY.",
}
"""What to use instead of names that have no counterpart under the same name."""

LOGOUT = "dj_rest_auth.views.LogoutView.logout"

SLIDING = "Sliding tokens are not supported: use TokenObtainPairView and TokenRefreshView."
ELSEWHERE = f"{PACKAGE} has no counterpart. Do without it, or copy it into the project."

OVERRIDES = {
    "Serializer": (("validate",), "no session starts, rotates or is checked"),
    "View": (("post",), "the serializer isn't called"),
    "Authentication": (("get_validated_token", "get_user"), "the session isn't looked up"),
}
"""The methods that an override must call, by the ending of the class's name, and what is lost otherwise."""

REFRESHES = ("RefreshSerializer", "RefreshView")
STARTS = (".get_token(", ".for_user(")
"""What starts a session wherever it is called. SimpleJWT only makes a token."""

MADE_FROM_NOTHING = ("RefreshToken", "AccessToken", "UntypedToken")
"""Classes whose tokens belong to a session. A call without a token names no session."""

FIXED = (
    "set_jti",
    "set_exp",
    "set_iat",
    "lifetime",
    "token_type",
    "check_blacklist",
    "blacklist",
    "outstand",
    "verify",
)
"""What a subclass of a token can't change, since a token is derived from its session."""


WEAK_FORMER_KEY = "latchkey.W014"
"""The warning about a weak key of old tokens: nothing can be changed about those."""


class Finding(NamedTuple):
    where: str
    """A file and a line, or another place."""

    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Source(NamedTuple):
    """A Python file of the project."""

    name: str
    tree: ast.Module
    lines: list[str]

    def at(self, node: ast.AST) -> str:
        return f"{self.name}:{node.lineno}"  # type: ignore[attr-defined]

    def is_ignored(self, node: ast.AST) -> bool:
        return self.lines[node.lineno - 1].rstrip().endswith(IGNORE)  # type: ignore[attr-defined]


def findings(root: Path) -> list[Finding]:
    """Return what is left to change in the project below that folder, each thing once."""
    sources, unread = read(root)
    found = [*unread, *_of_sources(sources), *_of_settings(sources), *_of_urls(root)]
    return list(dict.fromkeys(found))


def read(root: Path) -> tuple[list[Source], list[Finding]]:
    """Return the project's files, and those that can't be read."""
    sources, unread = [], []
    for path in _files(root):
        name = str(path.relative_to(root))
        try:
            text = path.read_text(encoding="utf-8")
            sources.append(Source(name, ast.parse(text), text.splitlines()))
        except (OSError, SyntaxError, ValueError) as error:
            unread.append(Finding(name, f"The file can't be read: {error}"))
    return sources, unread


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in SKIPPED or path.is_symlink() or path.resolve() == OWN_FOLDER:
            continue
        if path.is_dir() and not (path / "pyvenv.cfg").exists():
            yield from _files(path)
        elif path.suffix == ".py":
            yield path


def _of_sources(sources: Iterable[Source]) -> Iterator[Finding]:
    for source in sources:
        imported = _imported(source)
        for node in ast.walk(source.tree):
            match node:
                case ast.Call(func=made, args=[], keywords=[]) if _origin(made, imported) in MADE_FROM_NOTHING:
                    found = [f"{ast.unparse(node)} belongs to no session. Call RefreshToken.for_user(user)."]
                case ast.Import(names=names):
                    found = [what for alias in names for what in _module(alias.name)]
                case ast.ImportFrom(module=str(module), names=names, level=0):
                    found = [what for alias in names for what in _name(module, alias.name)]
                case ast.ClassDef():
                    yield from _of_class(source, node, imported)
                    continue
                case _:
                    continue
            if not source.is_ignored(node):
                yield from (Finding(source.at(node), what) for what in found)


def _is_of(package: str, module: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _module(module: str) -> Iterator[str]:
    part = module.removeprefix(THEIRS).removeprefix(".")
    if _is_of(PACKAGE, module) and not _is_there(module):
        yield f"{module} can't be imported. {ELSEWHERE}"
    elif _is_of(THEIRS, module) and part in SAME_NAME:
        yield f"Import {PACKAGE}.{part} instead of {module}."
    elif _is_of(THEIRS, module):
        yield f"{module} is imported. {ELSEWHERE}"


def _name(module: str, name: str) -> Iterator[str]:
    is_ours = _is_of(PACKAGE, module)
    if not _is_of(THEIRS, module) and not is_ours:
        return
    if "sliding" in name.lower():
        yield f"{name} is imported. {SLIDING}"
    elif is_ours:
        # Search and replace also renames names without a counterpart.
        if not _is_there(module, name):
            yield f"{name} can't be imported from {module}. {WAYS.get(name, ELSEWHERE)}"
    elif name in WAYS:
        yield f"{name} is imported from {module}. {WAYS[name]}"
    else:
        yield from _module(f"{module}.{name}" if module == THEIRS else module)


def _is_there(module: str, name: str = "*") -> bool:
    """Return whether this package has that module, and the name in it."""
    try:
        if find_spec(module) is None:
            return False
        return name == "*" or hasattr(import_module(module), name) or find_spec(f"{module}.{name}") is not None
    except ModuleNotFoundError as error:
        # What one of our modules imports may not be installed.
        return not _is_of(PACKAGE, f"{error.name}")


def _imported(source: Source) -> dict[str, str]:
    """Return the names that come from SimpleJWT, or from here, each with its name there."""
    return {
        alias.asname or alias.name: alias.name
        for statement in ast.walk(source.tree)
        if isinstance(statement, ast.ImportFrom)
        and (_is_of(THEIRS, f"{statement.module}") or PACKAGE in f"{statement.module}")
        for alias in statement.names
    }


def _origin(node: ast.expr, imported: Mapping[str, str]) -> str:
    """Return the imported name that the expression stands for; empty for any other."""
    return imported.get(ast.unparse(node).rpartition(".")[2], "")


def _of_class(source: Source, node: ast.ClassDef, imported: Mapping[str, str]) -> Iterator[Finding]:
    """Report methods of SimpleJWT, or of ours in their place, that a class overrides in a way that does not work."""
    bases = [name for base in node.bases if (name := _origin(base, imported))]
    if "Token" in bases:
        if not source.is_ignored(node):
            yield Finding(source.at(node), f"{node.name} is a custom token type. Use django.core.signing.")
        return
    for member in node.body:
        name = _called(member)
        if not name or source.is_ignored(member):
            continue
        for base in bases:
            if why := _override(base, name, ast.unparse(member)):
                yield Finding(source.at(member), f"{node.name}.{name} {why}")


def _called(member: ast.stmt) -> str:
    match member:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""


def _override(base: str, name: str, code: str) -> str:
    overrides = f"overrides {base}.{name}:"
    if base.endswith("Token") or base == "BlacklistMixin":
        return (
            f"{overrides} a token is derived from its session, and its lifetimes are settings." if name in FIXED else ""
        )
    for suffix, (methods, loss) in OVERRIDES.items():
        calls = (f"super().{name}", ".get_serializer(") if name == "post" else (f"super().{name}",)
        if base.endswith(suffix) and name in methods and not any(call in code for call in calls):
            return f"{overrides} call super().{name}, or {loss}."
    if base.endswith(REFRESHES) and any(start in code for start in STARTS):
        return "starts another session at each refresh. Let TOKENS_ACCESS_CLAIMS return claims that may change."
    return ""


def _of_settings(sources: list[Source]) -> Iterator[Finding]:
    places = _strings(sources)
    given = getattr(settings, "SIMPLE_JWT", {})
    keys = _keys(sources, "SIMPLE_JWT")
    for message in _messages():
        key = next((key for key in keys if f"SIMPLE_JWT[{key!r}]" in message.msg), "")
        yield Finding(keys.get(key, "settings"), f"{message.msg} {message.hint or ''}".strip())
    if isinstance(given, Mapping) and "ROTATE_REFRESH_TOKENS" not in given:
        yield Finding(
            _keys(sources, None).get("SIMPLE_JWT", "settings"),
            "SIMPLE_JWT doesn't contain ROTATE_REFRESH_TOKENS. SimpleJWT's default is False, so clients may not store "
            "the refresh token from a refresh response, as they must here. Set it to False until they do, then to "
            "True.",
        )
    for name, path in _paths():
        if _is_left(path):
            what = path if isinstance(path, str) else _path(path)
            yield Finding(
                places.get(what, "settings"), f"{name} names {what}: use {PACKAGE}'s class, or a subclass of it."
            )
    yield from _of_dj_rest_auth(places)
    former = getattr(settings, "TOKENS_LEGACY", None)
    if isinstance(given, Mapping) and isinstance(former, Mapping):
        for name, default in DEFAULT_LEGACY.items():
            if given.get(name, default) != default and name not in former:
                yield Finding(keys.get(name, "settings"), f"TOKENS_LEGACY must contain the old tokens' {name!r}.")
    names = [config.name for config in apps.get_app_configs()]
    blacklist = checks.BLACKLIST_APP
    if blacklist in names and names.index(blacklist) < names.index(PACKAGE):
        yield Finding(
            places.get(blacklist, "settings"),
            f"INSTALLED_APPS must list {PACKAGE} before {blacklist}, whose flushexpiredtokens would run otherwise.",
        )


def _messages() -> Iterator[CheckMessage]:
    for check in (
        checks.check_secret_keys,
        checks.check_simple_jwt_names,
        checks.check_simple_jwt_paths,
        checks.check_authentication_rule,
        checks.check_types,
        checks.check_user_model,
        checks.check_databases,
        checks.check_blacklist,
        checks.check_legacy,
        checks.check_legacy_tables,
    ):
        yield from (message for message in check() if message.id != WEAK_FORMER_KEY)


def _paths() -> Iterator[tuple[str, Any]]:
    """Yield the paths in settings of DRF, djoser and dj-rest-auth, with the name of the setting."""
    for setting in ("REST_FRAMEWORK", "DJOSER", "REST_AUTH"):
        for key, value in getattr(settings, setting, {}).items():
            values = value.values() if isinstance(value, Mapping) else value
            for named in values if isinstance(values, Iterable) and not isinstance(values, str) else [values]:
                yield f"{setting}[{key!r}]", named


def _is_left(named: Any) -> bool:
    """Return whether it is a class of SimpleJWT that one of ours replaces, or a subclass of one."""
    if isinstance(named, str):
        try:
            named = import_string(named)
        except (ImportError, ValueError):
            return named.startswith(f"{THEIRS}.") if isinstance(named, str) else False
    if not isinstance(named, type):
        return False
    return any(
        issubclass(named, theirs) and not issubclass(named, ours)
        for theirs, ours in (
            (simplejwt_authentication.JWTAuthentication, authentication.JWTAuthentication),
            (simplejwt_serializers.TokenObtainSerializer, serializers.CredentialsSerializer),
            (simplejwt_serializers.TokenRefreshSerializer, serializers.TokenRefreshSerializer),
            (simplejwt_serializers.TokenVerifySerializer, serializers.TokenVerifySerializer),
            (simplejwt_serializers.TokenBlacklistSerializer, serializers.TokenBlacklistSerializer),
            (simplejwt_views.TokenViewBase, views.TokenViewBase),
        )
    )


def _of_dj_rest_auth(places: Mapping[str, str]) -> Iterator[Finding]:
    given = getattr(settings, "REST_AUTH", {})
    if not given.get("USE_JWT"):
        return
    if not given.get("JWT_TOKEN_CLAIMS_SERIALIZER"):
        yield Finding(
            places.get("USE_JWT", "settings"),
            "With REST_AUTH['USE_JWT'], dj-rest-auth's login issues SimpleJWT's tokens. Set "
            f"JWT_TOKEN_CLAIMS_SERIALIZER to '{PACKAGE}.serializers.TokenObtainPairSerializer', or a subclass of it.",
        )
    cookie, former = given.get("JWT_AUTH_REFRESH_COOKIE"), getattr(settings, "TOKENS_LEGACY", None)
    if cookie and former is not None and cookie not in former.get("COOKIES", ()):
        yield Finding(places.get(cookie, "settings"), f"TOKENS_LEGACY['COOKIES'] must list {cookie!r}.")


def _of_urls(root: Path) -> Iterator[Finding]:
    try:
        routes = [*_routes(get_resolver().url_patterns, "")]
    except Exception as error:  # noqa: BLE001 (whatever the project's own modules raise)
        yield Finding("ROOT_URLCONF", f"The URLs can't be read: {error}")
        return
    for route, callback in routes:
        view = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
        if not _is_reached(route, callback):
            continue
        if view and _is_left(view):
            what = f"/{route} is {_path(view)}: use the view in {PACKAGE}.views, or a subclass of it."
            yield Finding(_place(view, root) or "urls", what)
        if view and _is_logout_of_dj_rest_auth(view):
            yield Finding(_place(view, root) or "urls", f"/{route} is {_path(view)}: its logout ends no session.")
        for guard in getattr(view, "authentication_classes", ()):
            if _is_left(guard) and not _is_default(guard):
                what = f"/{route} is guarded by {_path(guard)}: use {PACKAGE}'s JWTAuthentication, or a subclass of it."
                yield Finding(_place(guard, root) or _place(view, root) or "urls", what)


def _is_reached(route: str, callback: Any) -> bool:
    """Return whether a request reaches it, with or without the slash that it may leave out.

    A route before it may take its requests. For a route with parameters, nobody can know.
    """
    path = f"/{route.removesuffix('?')}"
    paths = [path, path.removesuffix("/")] if route.endswith("/?") else [path]
    try:
        return any(checks.PARAMETER.search(path) or resolve(path).func == callback for path in paths)
    except Resolver404:
        return True


def _is_logout_of_dj_rest_auth(view: type[Any]) -> bool:
    if not getattr(settings, "REST_AUTH", {}).get("USE_JWT"):
        return False
    method = getattr(view, "logout", None)
    return f"{getattr(method, '__module__', '')}.{getattr(method, '__qualname__', '')}" == LOGOUT


def _is_default(guard: type[BaseAuthentication]) -> bool:
    # Reported once, by its setting.
    named = getattr(settings, "REST_FRAMEWORK", {}).get("DEFAULT_AUTHENTICATION_CLASSES", ())
    return _path(guard) in named or guard in named


def _routes(patterns: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$")
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        else:
            yield route, pattern.callback


def _path(named: type[Any]) -> str:
    return f"{named.__module__}.{named.__qualname__}"


def _place(named: type[Any] | None, root: Path) -> str:
    """Return the file and the line of a class of the project; empty for one of a library."""
    try:
        path = Path(inspect.getsourcefile(named) or "").resolve() if named else Path()
        if not path.is_relative_to(root) or SKIPPED & set(path.parts):
            return ""
        return f"{path.relative_to(root)}:{inspect.getsourcelines(named)[1]}"  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""


def _strings(sources: Iterable[Source]) -> dict[str, str]:
    """Return where each text first occurs, in any file."""
    places: dict[str, str] = {}
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                places.setdefault(node.value, source.at(node))
    return places


def _keys(sources: Iterable[Source], setting: str | None) -> dict[str, str]:
    """Return where a setting's dictionary has its keys; without a dictionary, where settings are assigned."""
    places: dict[str, str] = {}
    for source in sources:
        for node in source.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)]) if setting is None:
                    places.setdefault(name, source.at(node))
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys)) if name == setting:
                    for key in keys:
                        if isinstance(key, ast.Constant):
                            places.setdefault(str(key.value), source.at(key))
    return places
