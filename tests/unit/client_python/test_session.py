"""The session of the Python client, which outlives connections."""

from cloudmatch.core.session import Session


def session() -> Session:
    """A session with a grace of 30 s, whose connection was lost at 100 s."""
    session = Session()
    session.connecting = True
    session.welcome("token", 30)
    session.connecting = False
    session.suspend(100)
    return session


def test_a_device_starts_without_a_session() -> None:
    assert (Session().token, Session().deadline, Session().expire(1e9)) == ("", None, False)


def test_a_session_expires_when_the_grace_has_passed_without_a_connection() -> None:
    it = session()
    assert it.deadline == 130
    assert (it.expire(129), it.token) == (False, "token")
    assert (it.expire(130), it.token, it.deadline) == (True, "", None)
    assert not it.expire(131)


def test_a_session_does_not_expire_while_a_connection_is_made() -> None:
    it = session()
    it.connecting = True
    assert (it.deadline, it.expire(1e9)) == (None, False)
    it.connecting = False
    assert it.deadline == 130


def test_a_welcome_ends_the_grace() -> None:
    it = session()
    it.welcome("another", 30)
    assert (it.token, it.deadline) == ("another", None)


def test_a_session_of_a_closed_device_never_expires() -> None:
    it = session()
    it.close()
    assert it.deadline is None
