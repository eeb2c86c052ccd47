"""The addresses of this machine, and who can reach them."""

import ipaddress


def loopback(host: str) -> bool:
    """Tells whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
