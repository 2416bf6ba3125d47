"""The storage of collected static files."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # it has no stubs
    """Names each file by its content, also in the imports of scripts, so browsers can cache it forever."""

    support_js_module_import_aggregation = True
