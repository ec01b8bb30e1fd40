"""Every test that uses `rendered` runs once per environment."""

import os

import pytest

from deploy.rendered import ENVIRONMENTS, KUBECTL, Rendered, render


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the long tests."""
    parser.addoption("--images", action="store_true", help="install and start each service as its image does")
    parser.addoption("--rounds", type=int, default=1, help="how often everything is rolled out")


def _need_kubectl() -> None:
    if not KUBECTL.exists():
        missing = "kubectl is not installed: make setup"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture(params=ENVIRONMENTS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    """Each environment in turn."""
    _need_kubectl()
    return render(request.param)


@pytest.fixture
def production() -> Rendered:
    """The largest environment."""
    _need_kubectl()
    return render("overlays/production")
