"""The tokens of knox become sessions, as docs/migrating.md says."""

from tests.hosts.conftest import Host, shown


def test_token_of_knox_is_exchanged_once(host: Host) -> None:
    (host.folder / "project/views.py").write_text(shown("knox", "python"))
    host.manage("check", "--fail-level", "WARNING")
    host.test()
