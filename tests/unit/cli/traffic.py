"""What the routers of the fleet in fleet.yaml told, twice: as their /metrics have it."""

from __future__ import annotations

from ollama_fleet.cli.scraping import Look, Traffic
from ollama_fleet.traffic.exposition import Scrape, read
from ollama_fleet.traffic.figures import NAMES

PLACE = ("llm", "chat")
_METRICS = """
process_start_time_seconds 1
ollama_fleet_router_requests_total{{path="/api/chat",server="fleet-gpu-24g",status="200"}} {large}
ollama_fleet_router_requests_total{{path="/api/chat",server="fleet-gpu-12g",status="200"}} {small}
ollama_fleet_router_server_ready{{server="fleet-gpu-24g",state="Ready"}} 1
ollama_fleet_router_server_ready{{server="fleet-gpu-12g",state="Ready"}} 1
ollama_fleet_router_server_ready{{server="fleet-gpu-6g",state="Offline"}} 0
ollama_fleet_router_breaker_state{{server="fleet-gpu-24g"}} 0
ollama_fleet_router_breaker_state{{server="fleet-gpu-12g"}} 0
ollama_fleet_router_breaker_state{{server="fleet-gpu-6g"}} 2
ollama_fleet_router_in_flight{{model="gpt-oss:20b",server="fleet-gpu-24g"}} 1
ollama_fleet_router_in_flight{{model="qwen3:4b",server="fleet-gpu-24g"}} 0
ollama_fleet_router_queue_length{{model="gpt-oss:20b"}} 1
gen_ai_client_token_usage_sum{{gen_ai_token_type="output",server="fleet-gpu-24g"}} {tokens}
gen_ai_server_time_to_first_token_seconds_bucket{{le="0.25"}} {quick}
gen_ai_server_time_to_first_token_seconds_bucket{{le="1"}} {large}
gen_ai_server_time_to_first_token_seconds_bucket{{le="2.5"}} {all}
gen_ai_server_time_to_first_token_seconds_bucket{{le="+Inf"}} {all}
"""


def scrape(large: int = 0, small: int = 0, tokens: int = 0) -> Scrape:
    """Of one replica: requests at two servers, and tokens given out, since it began."""
    text = _METRICS.format(
        large=large, small=small, tokens=tokens, quick=large * 4 // 5, all=large + small
    )
    return read(text, NAMES)


def passing() -> Traffic:
    """Two replicas, of which each had the same to do for a second."""
    before = {pod: scrape(100, 10, 4000) for pod in ("chat-a", "chat-b")}
    after = {pod: scrape(105, 11, 4240) for pod in ("chat-a", "chat-b")}
    return Traffic(Look(0.0, {PLACE: before}), Look(1.0, {PLACE: after}))


def unseen(problem: str) -> Traffic:
    """Nobody told anything."""
    return Traffic(Look(0.0, problem=problem), Look(0.0, problem=problem))
