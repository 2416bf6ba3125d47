import re

from tests.hosts.conftest import Host
from tests.wheel import ROOT


def test_channels_guards_sockets_on_a_server(host: Host) -> None:
    """Uses the application in the documentation, but checks open sockets more often."""
    [shown] = re.findall(r"(?s)```py\n# shop/asgi\.py\n(.*?)```", (ROOT / "docs/around-drf.md").read_text())
    often = shown.replace("from shop", "from project").replace("as_asgi())])", "as_asgi())]), interval=0.05")
    (host.folder / "project/asgi.py").write_text(often)
    host.manage("check", "--fail-level", "WARNING")
    host.test()
