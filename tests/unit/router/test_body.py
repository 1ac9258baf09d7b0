"""The model is read only where every server would read the same."""

import json
import sys

import pytest

from ollama_fleet.router.body import Body, read_body, write_body
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
        (b'{"model":"a","options":{"model":"b"},"tools":[{"options":{}}]}', "a"),
        (b'{"model":"a","Stream":true,"toolChoice":1}', "a"),
    ],
)
def test_read(body: bytes, model: str) -> None:
    assert read_body(body).name == model


def test_a_number_of_thousands_of_digits_is_no_fault() -> None:
    read_body(b'{"model":"a","x":"\\u0041","y":0.' + b"9" * 5000 + b"}")


def test_every_field_is_handed_out() -> None:
    read = read_body(b'{"model":"a","options":{"seed":1}}')
    assert read == Body("a", {"model": "a", "options": {"seed": 1}})


def test_show_may_use_name() -> None:
    assert read_body(b'{"model":"","name":"x"}', may_use_name=True).name == "x"
    assert read_body(b'{"name":"x"}', may_use_name=True).name == "x"
    assert read_body(b'{"model":null,"name":"x"}', may_use_name=True).name == "x"
    assert read_body(b'{"model":"a","name":"x"}', may_use_name=True).name == "a"
    for other in (b"[]", b"{}", b"0", b"false"):
        with pytest.raises(Refusal, match="into the field model"):
            read_body(b'{"model":%s,"name":"x"}' % other, may_use_name=True)


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
        (b'{"model":"a","Options":{}}', "the key 'Options' is ambiguous: write it in lower case"),
        (b'{"name":"a","name":"b","model":"c"}', "the key 'name' stands twice: write it once"),
        (b'{"model":NaN}', "the JSON holds a number or nesting that JSON does not have"),
        (b"[" * 5000, "the JSON is nested too deeply"),
        (b'{"model":"a","x":' + b"9" * 5000 + b",}", "invalid character '}' looking for "
         "beginning of object key string"),
        (b"9" * 5000, "the JSON holds a number or nesting that JSON does not have"),
        (b"[" * 5000 + b"]" * 5000, "the JSON is nested too deeply"),
        (b'{"model":"a","x":[1, ]}', "invalid character ']' looking for beginning of value"),
        (b'{"model":"%s"}' % (b"a" * 1025), "invalid model name"),
        (b'{"model":"a","x":[' + b"[]," * 600_000 + b"0]}",
         "the JSON holds more than 1000000 values"),
    ],
)  # fmt: skip
def test_refused(body: bytes, sentence: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_body(body)
    assert (refused.value.status, refused.value.sentence) == (400, sentence)


def test_what_an_older_python_does_not_read_to_such_a_depth_is_refused_there() -> None:
    body = b'{"model":"a","x":"\\u0041","y":' + b"[" * 1010 + b"]" * 1010 + b"}"
    if sys.version_info >= (3, 12):
        assert read_body(body).name == "a"
        return
    with pytest.raises(Refusal, match="nested too deeply"):
        read_body(body)


def test_what_is_too_deep_to_be_written_is_refused() -> None:
    read = read_body(b'{"model":"a","x":' + b"[" * 300 + b"]" * 300 + b"}")
    with pytest.raises(Refusal, match="nested too deeply"):
        write_body(read.fields)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","z":1,"b":[1.5,-0.0,1e3,null,true],"c":"\\u00e9\\n\\ud83d\\ude00"}',
        b'{"model":"a","x":18446744073709551615,"y":-9223372036854775808}',
    ],
)
def test_a_body_that_is_written_again_means_the_same(body: bytes) -> None:
    assert json.loads(write_body(read_body(body).fields)) == json.loads(body)


@pytest.mark.parametrize(
    "key", ["Options", "option\u017f", "\u212aeep_alive", "_DEBUG_render_only"]
)
def test_a_key_in_another_spelling_is_refused(key: str) -> None:
    for body in (
        b'{"model":"a","%s":1}' % key.encode(),
        json.dumps({"model": "a", key: 1}).encode(),
    ):
        with pytest.raises(Refusal) as refused:
            read_body(body)
        assert refused.value.sentence == f"the key {key!r} is ambiguous: write it in lower case"


@pytest.mark.parametrize("key", ["options", "keep_alive", "_debug_render_only"])
def test_a_key_that_counts_stands_once(key: str) -> None:
    for again in (key, key.replace("o", "\\u006f").replace("k", "\\u006b")):
        body = f'{{"{key}":{{"num_ctx":1}},"model":"a","{again}":null}}'
        with pytest.raises(Refusal) as refused:
            read_body(body.encode())
        assert refused.value.sentence == f"the key {key!r} stands twice: write it once"
