"""Where static files are collected to."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # it has no stubs
    """Names each file by what it holds, so that browsers keep it for good; in the imports of scripts as well."""

    support_js_module_import_aggregation = True
