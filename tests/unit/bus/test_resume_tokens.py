"""A token of a session is named by its hash."""

import base64
import hashlib

from cloudmatch_bus.contract.resume_tokens import digest, same


def test_a_digest_is_the_sha256_of_the_token() -> None:
    name, _, value = digest("a-token").partition(":")
    assert base64.urlsafe_b64decode(value + "=") == hashlib.new(name, b"a-token").digest()


def test_no_token_has_no_digest_and_is_the_same_as_none() -> None:
    assert digest("") == ""
    assert not same("", "")


def test_a_digest_stands_for_its_token_only() -> None:
    assert digest(digest("a")) == digest("a")
    assert same("a", "a")
    assert same("a", digest("a"))
    assert same(digest("a"), "a")
    assert not same(digest("a"), "b")
    assert not same(digest("a"), digest("b"))


def test_who_has_read_a_digest_cannot_use_it_as_a_token() -> None:
    read = digest("a").partition(":")[2]  # the prefix is no part of any token
    assert not same(digest(read), digest("a"))
