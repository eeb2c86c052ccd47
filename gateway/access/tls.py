"""The certificate that the gateway shows, tried before a port is opened."""

import ssl
from pathlib import Path

CERTIFICATE = "--ssl-certfile (MILLSTREAM_SSL_CERTFILE)"
KEY = "--ssl-keyfile (MILLSTREAM_SSL_KEYFILE)"


def check_tls(certificate: Path | None, key: Path | None) -> None:
    """Raises `ValueError`, which names the setting, for files that no TLS server can start with."""
    if certificate is None:
        if key is not None:
            raise ValueError(f"{KEY} {key} needs its certificate: name that file with {CERTIFICATE}.")
        return
    certified = _text(CERTIFICATE, certificate)
    private = certified if key is None else _text(KEY, key)
    whose = f"{CERTIFICATE} {certificate}" if key is None else f"{KEY} {key}"
    if "BEGIN CERTIFICATE" not in certified:
        raise ValueError(f"{CERTIFICATE} {certificate} has no certificate in PEM form.")
    if "PRIVATE KEY" not in private:
        more = f" Name the file that has it with {KEY}." if key is None else ""
        raise ValueError(f"{whose} has no private key in PEM form.{more}")
    if "ENCRYPTED" in private:
        raise ValueError(f"{whose} has a key with a passphrase, which nobody could type here: give it one without.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"The key of {whose} does not belong to the certificate in {certificate}.") from error
        raise ValueError(f"{CERTIFICATE} {certificate} cannot be used: {error.reason or error}.") from error


def _text(setting: str, file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError as error:
        raise ValueError(f"{setting} {file} cannot be read: {error.strerror}. Name a file in PEM form.") from error
