"""The model is read only where every server would read the same."""

import pytest

from ollama_fleet.router.body import Body, read_body
from ollama_fleet.router.errors import Refusal


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"a"}', "a"),
        (b' {"stream":true,"model":"a:b"}\n', "a:b"),
        (b'{"model":"a","name":"b"}', "a"),
        (b'{"model":"a","tools":[{"function":{"name":"f","model":"x"}}]}', "a"),
        (b'{"model":"a","messages":[{"name":"x"},{"name":"y"}]}', "a"),
        (b'{"model":"a","x":"\\u00e9"}', "a"),
        ('{"model":"ü"}'.encode(), "ü"),
    ],
)
def test_read(body: bytes, model: str) -> None:
    assert read_body(body).name == model


def test_every_field_is_handed_out() -> None:
    read = read_body(b'{"model":"a","options":{"seed":1}}')
    assert read == Body("a", {"model": "a", "options": {"seed": 1}})


def test_show_may_use_name() -> None:
    assert read_body(b'{"model":"","name":"x"}', may_use_name=True).name == "x"
    assert read_body(b'{"name":"x"}', may_use_name=True).name == "x"
    assert read_body(b'{"model":"a","name":"x"}', may_use_name=True).name == "a"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "missing request body"),
        (b"  ", "missing request body"),
        (b"{}", "model is required"),
        (b'{"model":""}', "model is required"),
        (b'{"model":null}', "model is required"),
        (b'{"name":"x"}', "model is required"),
        (b'{"model":7}', "json: cannot unmarshal number into the field model of type string"),
        (b"[]", "json: cannot unmarshal array into a request: send a JSON object"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b"{model:1}", "invalid character 'm' looking for beginning of object key string"),
        (b'{"model" "a"}', "invalid character '\"' after object key"),
        (b'{"model":"a" "b"}', "invalid character '\"' after object key:value pair"),
        (b'{"model":"a"', "unexpected EOF"),
        (b'{"model":"a', "unexpected EOF"),
        (b'{"model":"a"}{"model":"b"}', "send one JSON value: there is more after the first"),
        (b'{"model":"a"} x', "send one JSON value: there is more after the first"),
        (b'\xef\xbb\xbf{"model":"a"}', "send JSON as UTF-8 without a byte order mark"),
        ('{"model":"a"}'.encode("utf-16"), "send JSON as UTF-8 without a byte order mark"),
        ('{"model":"a"}'.encode("utf-16-le"), "send JSON as UTF-8 without a byte order mark"),
        (b'{"model":"\xff"}', "send JSON as UTF-8"),
        (b'{"model":"a","Model":"b"}', "the key 'Model' is ambiguous: write it in lower case"),
        (b'{"MODEL":"b"}', "the key 'MODEL' is ambiguous: write it in lower case"),
        (b'{"NAME":"b"}', "the key 'NAME' is ambiguous: write it in lower case"),
        (b'{"model":"a","model":"b"}', "the key 'model' stands twice: write it once"),
        (b'{"model":"a","model":"a"}', "the key 'model' stands twice: write it once"),
        (b'{"model":"a","\\u006dodel":"b"}', "the key 'model' stands twice: write it once"),
        (b'{"model":1,"x":{"model":1},"model":2}', "the key 'model' stands twice: write it once"),
        (b'{"name":"a","name":"b","model":"c"}', "the key 'name' stands twice: write it once"),
        (b'{"model":NaN}', "the JSON holds a number or nesting that JSON does not have"),
        (b"[" * 5000, "the JSON is nested too deeply"),
    ],
)  # fmt: skip
def test_refused(body: bytes, sentence: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_body(body)
    assert (refused.value.status, refused.value.sentence) == (400, sentence)
