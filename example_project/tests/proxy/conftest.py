"""The composed site behind Debian's nginx: the documented file, and two web processes."""

from __future__ import annotations

import pytest
import trustme
from proxied_site import ProxiedSite

from myometrics_testing.services import OwnedServer


@pytest.fixture(scope="session")
def postgresql():
    with OwnedServer("postgresql") as server:
        yield server


@pytest.fixture(scope="session")
def site(tmp_path_factory, postgresql):
    folder = tmp_path_factory.mktemp("proxied")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    site = ProxiedSite(folder, postgresql.url, authority.issue_cert("localhost"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
        try:
            site.start()
            site.make_administrator()
            yield site
        finally:
            site.stop()


@pytest.fixture
def access(site):
    return site.sign_in()
