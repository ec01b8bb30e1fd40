"""Origins are compared as browsers write them, however a setting or a client spells them."""

import pytest

from cloudmatch_bus.process.origins import allows, listed, normal

SPELLINGS = {
    "https://a.example": ["https://a.example/", "HTTPS://A.example", " https://a.example:443 "],
    "http://a.example": ["http://a.example:80/"],
    "http://a.example:443": ["http://a.example:443"],
    "http://[::1]:8080": ["http://[::1]:8080/"],
    "capacitor://localhost": ["capacitor://localhost"],
    "chrome-extension://abcdef": ["chrome-extension://abcdef/"],
    "null": ["null"],
    "file://": ["file://"],
}


@pytest.mark.parametrize("origin", SPELLINGS)
def test_every_spelling_of_an_origin_is_the_same(origin: str) -> None:
    assert normal(origin) == origin
    for spelling in SPELLINGS[origin]:
        assert normal(spelling) == origin
        assert allows([origin], spelling)
        assert listed(f"https://z,{spelling}") == ["https://z", origin]


@pytest.mark.parametrize(
    "text",
    [
        *("a.example", "https://", "https://a/path", "https://a?b", "https://u@a", "https://a b"),
        *("https://a:0", "https://a:65536", "https://a:x", "https://*.a", "//a", "https://bücher.example"),
    ],
)
def test_what_is_no_origin_is_refused_in_a_list_and_never_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        listed(f"https://a, {text}")
    assert not allows(["https://a"], text)


def test_a_list_is_trimmed_and_a_star_stands_for_any() -> None:
    assert listed(" https://a , ,https://b,") == ["https://a", "https://b"]
    assert listed("") == []
    assert listed("https://a, *") == ["*"]
    assert allows(["*"], "nonsense")
    assert not allows(["https://a"], "https://b")
