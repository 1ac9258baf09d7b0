"""What calls itself a router may tell anything."""

import json
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.traffic.exposition import read
from ollama_fleet.traffic.figures import NAMES, figures
from tests.hostile import hostile, mutated, texts

LABELS = st.dictionaries(
    st.sampled_from(("server", "state", "reason", "le", "model", "gen_ai_token_type", "")) | texts,
    st.sampled_from(("+Inf", "0.5", "Ready", "output", "NaN")) | texts,
    max_size=4,
)
NUMBERS = st.sampled_from(("1", "0", "-3", "NaN", "+Inf", "1e400", "9" * 400, "x", "", "1 2"))
LINES = st.lists(
    st.tuples(st.sampled_from(sorted(NAMES)), LABELS, NUMBERS).map(
        lambda one: (
            f"{one[0]}{{{','.join(f'{key}={json.dumps(value)}' for key, value in one[1].items())}}}"
            f" {one[2]}"
        )
    )
    | texts,
    max_size=8,
).map("\n".join)
GOOD = b'ollama_fleet_router_server_ready{server="a",state="Ready"} 1\n' + b"".join(
    b'gen_ai_server_time_to_first_token_seconds_bucket{le="%s"} 1\n' % bound
    for bound in (b"1", b"+Inf")
)


@hostile
@given(*[LINES | mutated(GOOD).map(lambda text: text.decode("latin-1"))] * 2)
def test_figures(before: str, after: str) -> None:
    told = []
    for text in (before, after):
        try:
            told.append({"a": read(text, NAMES)})
        except ValueError:
            return
    found = figures(told[0], told[1], 2.0)
    json.dumps(asdict(found), allow_nan=False)
