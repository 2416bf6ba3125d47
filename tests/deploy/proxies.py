"""Proxies that terminate TLS, each on its own port, and what a browser does through them."""

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic, sleep

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

START = 30  # seconds
FORGED = "203.0.113.9"


class Certificate:
    """A self-signed certificate of localhost."""

    def __init__(self, folder: Path) -> None:
        self.chain, self.key = folder / "fullchain.pem", folder / "privkey.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, SHA256())
        )
        self.chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.chain))


@contextmanager
def run(command: list[str], url: str, certificate: Certificate, **environment: str) -> Iterator[None]:
    """Run a proxy, and wait until it responds at the address over TLS."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            deadline = monotonic() + START
            while True:
                try:
                    httpx.get(f"{url}/health/live", verify=certificate.trusted(), trust_env=False)
                except httpx.TransportError:
                    if process.poll() is not None or monotonic() > deadline:
                        process.terminate()
                        raise AssertionError(process.communicate()[0].decode()) from None
                    sleep(0.1)
                else:
                    break
            yield
        finally:
            process.terminate()


def browser(url: str, certificate: Certificate) -> httpx.Client:
    """Return a client that keeps cookies, sends Secure ones only over TLS, and forges its address."""
    headers = {"X-Forwarded-For": FORGED, "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"}
    return httpx.Client(base_url=url, verify=certificate.trusted(), trust_env=False, headers=headers)


def assert_sessions_live_and_end(url: str, certificate: Certificate, path: str = "") -> None:
    """Register, refresh, list the sessions and sign out, as a browser does. No forged header is believed."""
    with browser(url, certificate) as client:
        origin = {"Origin": url}
        body = {"username": "ada", "password": "the analytical engine", "email": "ada@example.com"}
        registered = client.post(f"{path}/auth/register", json=body, headers=origin)
        assert registered.status_code == 201, registered.text
        assert cookie_attributes(registered) >= {"Secure", "HttpOnly", "SameSite=Strict", f"Path={path}/auth"}
        assert registered.headers["Strict-Transport-Security"].startswith("max-age=31536000")

        first = client.cookies["refreshToken"]
        refreshed = client.post(f"{path}/auth/refresh-token", headers=origin)
        assert refreshed.status_code == 200
        assert "Secure" in cookie_attributes(refreshed)
        assert client.cookies["refreshToken"] != first

        bearer = {"Authorization": f"Bearer {refreshed.json()['accessToken']}"}
        assert client.get(f"{path}/api/me/", headers=bearer).json()["username"] == "ada"
        [session] = client.get(f"{path}/api/sessions/", headers=bearer).json()["results"]
        assert session["ipAddress"] == "127.0.0.1"

        foreign = client.post(f"{path}/auth/refresh-token", headers={"Origin": "https://evil.example"})
        assert (foreign.status_code, foreign.json()["code"]) == (403, "cross_site_request")

        assert client.post(f"{path}/auth/logout", headers=origin | bearer).status_code == 204
        assert "refreshToken" not in client.cookies
        assert client.get(f"{path}/api/me/", headers=bearer).json()["code"] == "token_revoked"
        client.cookies.set("refreshToken", first)
        assert client.post(f"{path}/auth/refresh-token", headers=origin).json()["code"] == "token_revoked"


def assert_chunked_body_arrives(url: str, certificate: Certificate, path: str = "") -> None:
    chunks = iter([b'{"username": "ada", ', b'"password": "wrong"}'])
    with browser(url, certificate) as client:
        headers = {"Origin": url, "Content-Type": "application/json"}
        answer = client.post(f"{path}/auth/login", content=chunks, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")


def assert_long_body_is_refused_as_json(url: str, certificate: Certificate, path: str = "") -> None:
    """The server refuses it, and not the proxy, whose response no client could read."""
    with browser(url, certificate) as client:
        headers = {"Origin": url, "Content-Type": "application/json"}
        answer = client.post(f"{path}/auth/login", content=b" " * 1_100_000, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def assert_pages_are_whole(url: str, certificate: Certificate, path: str = "") -> None:
    """The account page has its styles and its scripts."""
    with browser(url, certificate) as client:
        page = client.get(f"{path}/")
        assert page.status_code == 200
        assert page.headers["Content-Type"].startswith("text/html")
        linked = [line.split('"')[1] for line in page.text.replace("src=", "\nhref=").split("href=")[1:]]
        files = [link for link in linked if "/static/" in link]
        assert files
        for file in files:
            assert file.startswith(f"{path}/static/"), file
            assert client.get(file).status_code == 200, file


def cookie_attributes(answer: httpx.Response) -> set[str]:
    return {part.strip() for part in answer.headers["Set-Cookie"].split(";")[1:]}
