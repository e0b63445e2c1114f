import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from slatewise.errors import BundleError
from slatewise.serving.server import create_app
from slatewise.serving.settings import ServerSettings

from .conftest import K

Client = TestClient


@pytest.fixture
def client(bundle_folder: Path, tmp_path: Path) -> Iterator[TestClient]:
    settings = ServerSettings(seed=1, max_k=20, max_history=50, max_body_bytes=20_000)
    with TestClient(create_app(bundle_folder, tmp_path / "events.db", settings)) as client:
        yield client


def recommend(client: TestClient, **request: Any) -> dict[str, Any]:
    answer = client.post("/v1/recommend", json=request)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counted(client: TestClient, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name)))


def test_a_slate_is_answered_and_kept_with_its_propensities(client: TestClient) -> None:
    slate = recommend(client, shopper_id="ann", k=3, explore=1.0, query="mugs")
    assert [item["position"] for item in slate["items"]] == [0, 1, 2]
    assert all(0 < item["propensity"] < 1 for item in slate["items"])
    assert slate["items"][0].keys() >= {"item_id", "text", "price", "category", "brand", "reason", "score"}
    store = client.app.state.shop.store  # type: ignore[attr-defined]
    kept = store._reader().execute("SELECT item_id, propensity FROM slate_items ORDER BY position").fetchall()
    assert kept == [(item["item_id"], item["propensity"]) for item in slate["items"]]
    assert store._reader().execute("SELECT shopper_id, explore, query FROM slates").fetchall() == [("ann", 1.0, "mugs")]


def test_the_store_knows_the_visit_of_a_shopper(client: TestClient) -> None:
    first = recommend(client, shopper_id="ann")
    assert first["history"] == {"tokens": 0, "unknown_items": []}
    shown = first["items"][1]["item_id"]
    click = {"event_id": "1", "item_id": shown, "event": "click", "slate_id": first["slate_id"]}
    answer = client.post("/v1/events", json={"events": [click]})
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 1, "duplicates": 0, "unknown_items": 0, "foreign_slates": 0}
    second = recommend(client, shopper_id="ann")
    assert second["history"]["tokens"] == 1
    told = recommend(client, history=[{"item_id": shown, "event": "click"}])
    assert [item["item_id"] for item in second["items"]] == [item["item_id"] for item in told["items"]]
    assert second["items"][0]["because_of"] == shown
    assert recommend(client, shopper_id="bob")["history"]["tokens"] == 0


def test_filters_exclusions_and_notices_reach_the_answer(client: TestClient) -> None:
    slate = recommend(client, k=20, filters={"category": ["odd"], "max_price": 20}, exclude=["item-1"])
    assert sorted(item["item_id"] for item in slate["items"]) == ["item-5", "item-9"]  # 3 is not available, 7 unpriced
    assert slate["notice"].startswith("2 of 20 places filled")
    assert len(recommend(client)["items"]) == K


def test_events_of_a_visit_without_a_time_belong_to_the_same_visit(client: TestClient) -> None:
    views = [{"item_id": f"item-{n}", "event": "view"} for n in (5, 9, 11)]
    assert recommend(client, history=views)["history"]["tokens"] == 3
    views[1]["time"] = "2026-11-23T10:00:00Z"
    assert recommend(client, history=views)["history"]["tokens"] == 3


def test_a_preview_is_not_kept(client: TestClient) -> None:
    assert recommend(client, shopper_id="ann", preview=True)["slate_id"] is None
    assert client.get("/readyz").json()["slates"] == 0
    assert counted(client, 'slatewise_slates_served_total{explored="false"}') == 0


def test_unknown_items_are_told_or_refused(client: TestClient) -> None:
    history = [{"item_id": "nowhere"}, {"item_id": "item-2"}]
    assert recommend(client, history=history)["history"] == {"tokens": 1, "unknown_items": ["nowhere"]}
    refused = client.post("/v1/recommend", json={"history": history, "strict": True})
    assert refused.status_code == 422
    assert "'nowhere'" in refused.json()["detail"]
    event = {"event_id": "1", "item_id": "nowhere", "event": "view", "shopper_id": "ann"}
    assert client.post("/v1/events", json={"events": [event]}).json()["unknown_items"] == 1


def test_feedback_may_be_sent_again_but_not_changed(client: TestClient) -> None:
    event = {
        "event_id": "1",
        "item_id": "item-1",
        "event": "view",
        "shopper_id": "ann",
        "time": "2026-11-23T10:00:00+02:00",
    }
    assert client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1
    again = client.post("/v1/events", json={"events": [event]})
    assert (again.status_code, again.json()["duplicates"]) == (202, 1)
    other = client.post("/v1/events", json={"events": [{**event, "event": "cart"}]})
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"
    assert "'1' is known with other content" in other.json()["detail"]
    same_moment = {**event, "time": "2026-11-23T08:00:00Z"}
    assert client.post("/v1/events", json={"events": [same_moment]}).json()["duplicates"] == 1


def test_threads_that_send_one_event_keep_it_once(client: TestClient) -> None:
    event = {"event_id": "1", "item_id": "item-1", "event": "view", "shopper_id": "ann"}
    answers: list[dict[str, int]] = []

    def send() -> None:
        for _ in range(10):
            answers.append(client.post("/v1/events", json={"events": [event]}).json())

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 80
    assert sum(answer["accepted"] for answer in answers) == 1
    assert sum(answer["duplicates"] for answer in answers) == 79


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/recommend", {"k": 0}, 422, "body.k: Input should be greater than or equal to 1"),
        ("/v1/recommend", {"k": 21}, 422, "k is 21, this server takes at most 20"),
        ("/v1/recommend", {"slots": 3}, 422, "body.slots: Extra inputs are not permitted"),
        ("/v1/recommend", {"history": [{"item_id": "item-1"}] * 51}, 422, "history is 51"),
        ("/v1/recommend", {"history": [{"item_id": "item-1", "event": "wish"}]}, 422, "body.history.0.event"),
        ("/v1/recommend", {"history": [{"item_id": "item-1", "time": "2026-11-23T10:00:00"}]}, 422, "timezone"),
        ("/v1/recommend", {"exclude": ["x" * 300]}, 422, "at most 256 characters"),
        ("/v1/recommend", {"explore": 1e-9}, 422, "explore must be 0 (the best slate) or from 1e-06 on, got 1e-09"),
        ("/v1/recommend", {"query": "x" * 21_000}, 413, "longer than 20000 bytes"),
        ("/v1/recommend", [], 422, "body"),
        ("/v1/events", {"events": []}, 422, "body.events"),
        (
            "/v1/events",
            {"events": [{"event_id": "1", "item_id": "item-1", "event": "view"}]},
            422,
            "add its shopper_id",
        ),
        ("/v1/nothing", {}, 404, "Not Found"),
        ("/healthz", {}, 405, "Method Not Allowed"),
    ],
)
def test_errors_are_problems_that_say_what_was_wrong(
    client: TestClient, path: str, body: Any, status: int, words: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() >= {"type", "title", "status", "detail"}
    assert problem["status"] == status
    assert words in problem["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"query": "\\ud800"}', b'{"explore": NaN}', b'{"k": 1e400}', b"[" * 15_000]
)
def test_bodies_that_are_no_request_are_refused_not_failed_on(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/recommend", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_does_not_say_its_length_is_still_limited(client: TestClient) -> None:
    pieces = (b"x" * 1_000 for _ in range(30))
    answer = client.post("/v1/events", content=pieces, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert "longer than 20000 bytes" in answer.json()["detail"]


def test_a_key_is_asked_for_where_one_is_set(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLATEWISE_API_KEY", "open sesame")
    with TestClient(create_app(bundle_folder, tmp_path / "events.db")) as client:
        for headers in ({}, {"X-API-Key": "open sesam"}, {"X-API-Key": "öpen".encode("latin-1")}):
            answer = client.post("/v1/recommend", json={}, headers=headers)  # type: ignore[arg-type]
            assert answer.status_code == 401
            assert "X-API-Key" in answer.json()["detail"]
        assert client.post("/v1/recommend", json={}, headers={"X-API-Key": "open sesame"}).status_code == 200
        assert client.get("/healthz").status_code == 200
        assert "open sesame" not in client.get("/").text + client.get("/openapi.json").text


def test_counters_tell_what_was_served_and_clicked(client: TestClient) -> None:
    slates = [recommend(client, shopper_id="ann", explore=explore) for explore in (0, 0, 1)]
    clicked = slates[0]
    items = [item["item_id"] for item in clicked["items"]]
    events = [
        {"event_id": str(n), "item_id": item, "event": "click", "slate_id": clicked["slate_id"]}
        for n, item in enumerate(items)
    ]
    client.post("/v1/events", json={"events": events})
    client.post("/v1/events", json={"events": events[:2]})
    client.get("/unknown/address")
    assert counted(client, 'slatewise_slates_served_total{explored="false"}') == 2
    assert counted(client, 'slatewise_slates_served_total{explored="true"}') == 1
    assert counted(client, "slatewise_impressions_total") == 3 * K
    assert counted(client, "slatewise_slates_clicked_total") == 1
    assert counted(client, 'slatewise_events_total{event="click"}') == K
    assert counted(client, "slatewise_events_duplicate_total") == 2
    assert counted(client, 'slatewise_requests_total{method="POST",route="/v1/recommend",status="200"}') == 3
    assert counted(client, 'slatewise_requests_total{method="other",route="other",status="404"}') == 1
    assert counted(client, 'slatewise_request_seconds_count{route="/v1/events"}') == 2
    assert counted(client, "slatewise_model_info") == 1


def test_readiness_ends_with_the_store(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 200
    client.app.state.shop.store.close()  # type: ignore[attr-defined]
    assert client.get("/readyz").status_code == 503
    assert client.post("/v1/recommend", json={}).status_code == 503
    assert client.get("/healthz").status_code == 200


def test_exploration_repeats_with_the_seed_of_the_server(bundle_folder: Path, tmp_path: Path) -> None:
    runs = []
    for number in range(2):
        app = create_app(bundle_folder, tmp_path / f"{number}.db", ServerSettings(seed=7, explore=1.0))
        with TestClient(app) as client:
            runs.append([[item["item_id"] for item in recommend(client)["items"]] for _ in range(3)])
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[0][1]


def test_items_are_found_by_all_their_words(client: TestClient) -> None:
    found = client.get("/v1/items", params={"search": "THING even 12"}).json()
    assert [item["item_id"] for item in found] == ["item-12"]
    assert len(client.get("/v1/items", params={"limit": 4}).json()) == 4
    assert client.get("/v1/items", params={"limit": 0}).status_code == 422


def test_the_page_runs_only_its_own_script(client: TestClient, bundle_folder: Path, tmp_path: Path) -> None:
    answer = client.get("/")
    nonce = answer.headers["content-security-policy"].split("script-src 'nonce-")[1].split("'")[0]
    assert answer.text.count(f'nonce="{nonce}"') == 2
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert client.get("/").headers["content-security-policy"] != answer.headers["content-security-policy"]
    with TestClient(create_app(bundle_folder, tmp_path / "other.db", ServerSettings(page=False))) as other:
        assert other.get("/").status_code == 404


def test_the_interface_is_described_with_examples_that_work(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/v1/recommend", "/v1/events", "/v1/items", "/healthz", "/readyz", "/metrics"}
    errors = described["paths"]["/v1/events"]["post"]["responses"]
    assert {code for code in errors if int(code) >= 400} == {"400", "401", "409", "413", "422", "503"}
    assert all(list(errors[code]["content"]) == ["application/problem+json"] for code in errors if int(code) >= 400)
    schemas = described["components"]["schemas"]
    example = schemas["RecommendRequest"]["examples"][0]
    assert client.post("/v1/recommend", json=example).status_code == 200
    assert client.post("/v1/events", json=schemas["FeedbackBatch"]["examples"][0]).status_code == 202


def test_times_ahead_of_the_servers_clock_are_taken_as_now(client: TestClient) -> None:
    ahead = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    event = {"event_id": "1", "item_id": "item-1", "event": "view", "shopper_id": "ann", "time": ahead}
    assert client.post("/v1/events", json={"events": [event]}).status_code == 202
    assert recommend(client, shopper_id="ann")["history"]["tokens"] == 1


def test_a_bundle_that_is_not_whole_does_not_start(bundle_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no finished bundle"):
        create_app(tmp_path / "nowhere", tmp_path / "events.db")
    assert not (tmp_path / "events.db").exists()
    assert json.loads((bundle_folder / "bundle.json").read_text())["schema"] == 1
