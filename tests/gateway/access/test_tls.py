"""The certificate that the gateway shows: files that cannot be used are told in one sentence that names the setting."""

import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from millstream.gateway.access.tls import check_tls
from millstream.gateway.settings import GatewaySettings
from tests.gateway.scripted import ScriptedCluster
from tests.harness.serving import serving

CERTIFICATE, KEY = r"--ssl-certfile \(MILLSTREAM_SSL_CERTFILE\)", r"--ssl-keyfile \(MILLSTREAM_SSL_KEYFILE\)"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate with its key, another key, one with a passphrase, and a file of neither."""
    folder = tmp_path_factory.mktemp("tls")
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=x"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    for made in (
        [*new, *names, "-nodes", "-keyout", "key", "-out", "certificate"],
        ["openssl", "genrsa", "-out", "other", "2048"],
        ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", "key", "-out", "locked"],
    ):
        subprocess.run(made, cwd=folder, check=True, capture_output=True)
    (folder / "nonsense").write_bytes(b"\xff not PEM")
    (folder / "both").write_text((folder / "certificate").read_text() + (folder / "key").read_text())
    return folder


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        ("missing", "key", rf"^{CERTIFICATE} \S+missing cannot be read: No such file or directory\. Name a file"),
        ("certificate", "missing", rf"^{KEY} \S+missing cannot be read: No such file or directory\. Name a file"),
        (".", "key", rf"^{CERTIFICATE} \S+ cannot be read: Is a directory\."),
        (None, "key", rf"^{KEY} \S+key needs its certificate: name that file with {CERTIFICATE}\.$"),
        ("nonsense", "key", rf"^{CERTIFICATE} \S+nonsense has no certificate in PEM form\.$"),
        ("certificate", None, rf"certificate has no private key in PEM form\. Name the file that has it with {KEY}\."),
        ("certificate", "nonsense", rf"^{KEY} \S+nonsense has no private key in PEM form\.$"),
        (
            "certificate",
            "other",
            rf"^The key of {KEY} \S+other does not belong to the certificate in \S+\.$",
        ),
        ("certificate", "locked", rf"^{KEY} \S+locked has a key with a passphrase"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(files: Path, certificate: str | None, key: str | None, told: str) -> None:
    named = [files / name if name else None for name in (certificate, key)]
    with pytest.raises(ValueError, match=told):
        check_tls(*named)


def test_one_file_may_have_both(files: Path) -> None:
    check_tls(files / "both", None)
    check_tls(None, None)


async def test_a_gateway_with_a_certificate_is_spoken_to_over_tls(files: Path) -> None:
    settings = GatewaySettings(port=0, drain=1, ssl_certfile=files / "certificate", ssl_keyfile=files / "key")
    trusted = ssl.create_default_context(cafile=files / "certificate")
    async with serving(settings, ScriptedCluster().connect) as url, httpx.AsyncClient(verify=trusted) as http:
        assert (await http.get(f"{url.replace('http://', 'https://')}/health")).status_code == 200
