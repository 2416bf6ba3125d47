import re

from tests.hosts.conftest import Host
from tests.wheel import ROOT


def test_logins_of_allauth_become_sessions(host: Host) -> None:
    """Uses the function in the documentation."""
    [shown] = re.findall(r"(?s)```py\n# shop/signing_in\.py\n(.*?)```", (ROOT / "docs/around-drf.md").read_text())
    (host.folder / "project/signing_in.py").write_text(shown)
    host.manage("check", "--fail-level", "WARNING")
    host.test()
