"""Static files as collected for production."""

import json
import re
from pathlib import Path

from django.core.management import call_command
from pytest_django import Settings

from config.serving.storage import StaticFilesStorage


def test_scripts_import_each_other_by_hashed_names(settings: Settings, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STORAGES = {"staticfiles": {"BACKEND": f"{StaticFilesStorage.__module__}.{StaticFilesStorage.__name__}"}}
    call_command("collectstatic", interactive=False, verbosity=0)
    named = json.loads((tmp_path / "staticfiles.json").read_text())["paths"]
    imports = {
        script: re.findall(
            r'(?:^import .*? from |await import\()"\./(.*?)"', (tmp_path / collected).read_text(), re.MULTILINE
        )
        for script, collected in named.items()
        if script.endswith(".js")
    }
    assert imports["account.js"] == [named[name] for name in ("forms.js", "latchkey.js", "passkeys.js")]
    assert imports["example.js"] == [named["latchkey.js"]]
    assert imports["links.js"] == [named["forms.js"], named["latchkey.js"]]
    assert imports["forms.js"] == imports["passkeys.js"] == [named["latchkey.js"]]
    assert imports["latchkey.js"] == [named["dpop.js"]]  # loaded when it is needed
    assert re.fullmatch(r"latchkey\.[0-9a-f]{12}\.js", named["latchkey.js"])
