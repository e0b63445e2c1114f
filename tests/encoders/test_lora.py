"""Fine-tuning of the text model: it learns what goes together, is kept only where it helps, and outlives a kill."""

import builtins
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizer

from slatewise.datasets.artefact import read_config
from slatewise.datasets.log import ShopLog
from slatewise.datasets.tokens import Tokens
from slatewise.encoders.lora import FineTuneConfig, fine_tune_text, pair_loss
from slatewise.encoders.pairs import gain, item_pairs, pair_ranks
from slatewise.encoders.quiet import quiet_transformers
from slatewise.encoders.text import TextEncoder
from slatewise.errors import ArtefactError, EvidenceError

pytest.importorskip("peft", reason='needs pip install "slatewise[lora]"')

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "thing", "group", ".", *map(str, range(30))]
TINY = FineTuneConfig(rank=4, steps=60, every=15, batch_size=32, learning_rate=1e-2, temperature=0.1, pairs=200)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that has learnt nothing and knows the words of the made-up catalogue."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
        )
        BertModel(config).save_pretrained(folder)
        BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n# A tiny model\n")
    return folder


class Killed(BaseException):
    pass


def test_what_follows_in_a_session_is_a_pair() -> None:
    tokens = Tokens(
        items=np.array([1, 2, 2, 9, 3, 4, 1]),
        events=np.array([2, 3, 4, 1, 2, 2, 2]),  # the 9 was shown and left
        gaps=np.zeros(7, np.float32),
        offsets=np.array([0, 5, 7]),
    )
    pairs, session = item_pairs(tokens)
    assert pairs.tolist() == [[1, 2], [2, 3], [4, 1]]
    assert session.tolist() == [0, 0, 1]


def test_the_loss_of_two_pairs_is_as_worked_out_by_hand() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    log_chance = torch.log(torch.tensor([0.5, 0.25]))
    loss = pair_loss(first, second, torch.tensor([[1, 2], [3, 4]]), log_chance, temperature=0.5)
    row = [(1.2 + math.log(2), 1.6 + math.log(4)), (1.6 + math.log(2), 1.2 + math.log(4))]
    by_hand = [math.log(sum(map(math.exp, logits))) - logits[own] for own, logits in enumerate(row)]
    assert float(loss) == pytest.approx(sum(by_hand) / 2, rel=1e-5)


def test_a_pairs_own_items_are_no_rivals() -> None:
    vectors = torch.eye(3)
    pairs = torch.tensor([[1, 2], [5, 2], [3, 1]])  # to row 0, row 1 has its target again and row 2 its first item
    loss = pair_loss(vectors, vectors, pairs, torch.zeros(3), temperature=1.0)
    one_rival = math.log(math.exp(1) + 1) - 1  # rows 1 and 2 have one and two rivals
    two_rivals = math.log(math.exp(1) + 2) - 1
    assert float(loss) == pytest.approx((0.0 + one_rival + two_rivals) / 3, rel=1e-5)


def test_ranks_leave_out_the_item_itself_and_count_ties_against_it() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.6, 0.8]])
    ranks = pair_ranks(vectors, np.array([2, 4, 5, 7]), np.array([[2, 4], [2, 5], [5, 2]]))
    assert ranks.tolist() == [1, 3, 3]


def test_a_gain_is_told_with_an_interval_over_sessions() -> None:
    before, after = np.zeros(40), np.ones(40)
    found = gain(before, after, np.repeat(np.arange(10), 4), seed=0)
    assert (found["gain"], found["gain_interval"]) == (1.0, (1.0, 1.0))
    mixed = gain(before, np.tile([1.0, -1.0], 20), np.arange(40), seed=0)
    assert mixed["gain_interval"][0] < 0 == mixed["gain"] < mixed["gain_interval"][1]


def test_it_learns_which_texts_go_together_and_writes_an_ordinary_model(
    small_log: ShopLog, tiny_bert: Path, tmp_path: Path
) -> None:
    said: list[tuple[int, int, str]] = []
    before = TextEncoder(tiny_bert, cache=tmp_path / "cache")
    encoder = fine_tune_text(
        small_log, tmp_path / "text", model=before, config=TINY, progress=lambda *one: said.append(one)
    )
    facts = read_config(tmp_path / "text", "text_model")["slatewise_artefact"]["facts"]
    assert facts["kept"] is True
    assert facts["mrr"]["after"] > facts["mrr"]["before"] + 0.1
    assert facts["mrr"]["gain_interval"][0] > 0
    assert (facts["license"], facts["language"]) == ("apache-2.0", "en")
    assert said[0][:2] == (1, 60)
    # Items of one group follow each other, and now read alike; so does an item that no session has.
    vectors = encoder.encode(small_log.catalogue.texts())
    alike = vectors @ encoder.encode(["thing 29. group 0"])[0]
    assert alike[:6].mean() > alike[6:24].mean() + 0.2
    # What lies there is a model like any other.
    with quiet_transformers():
        model = AutoModel.from_pretrained(tmp_path / "text")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "text")
    assert type(model) is BertModel
    assert not any("lora" in name for name in model.state_dict())
    hidden = model.eval()(**tokenizer(small_log.catalogue.texts()[0], return_tensors="pt")).last_hidden_state
    by_hand = torch.nn.functional.normalize(hidden.mean(1)).detach().numpy()[0]
    assert vectors[0] == pytest.approx(by_hand, abs=1e-5)
    assert encoder.fingerprint != before.fingerprint
    assert str(tmp_path) not in (tmp_path / "text" / "config.json").read_text()


def test_a_killed_run_goes_on_and_ends_with_the_same_model(small_log: ShopLog, tiny_bert: Path, tmp_path: Path) -> None:
    short = replace(TINY, steps=30, every=10)
    whole = fine_tune_text(small_log, tmp_path / "whole", model=tiny_bert, config=short)

    def kill(done: int, total: int, words: str) -> None:
        if done > 15:
            raise Killed

    state = torch.random.get_rng_state()
    with pytest.raises(Killed):
        fine_tune_text(small_log, tmp_path / "killed", model=tiny_bert, config=short, progress=kill)
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is left alone
    torch.manual_seed(9)
    said: list[int] = []
    resumed = fine_tune_text(
        small_log, tmp_path / "killed", model=tiny_bert, config=short, progress=lambda done, *_: said.append(done)
    )
    assert said[0] == 11
    # Vectors are cached by content, and when a folder was written is none of it.
    assert resumed.fingerprint == whole.fingerprint
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    said.clear()
    fine_tune_text(small_log, tmp_path / "killed", model=tiny_bert, config=short, progress=lambda *_: said.append(0))
    assert not said
    with pytest.raises(ArtefactError, match="seed=0, now 1"):
        fine_tune_text(small_log, tmp_path / "killed", model=tiny_bert, config=replace(short, seed=1))


def test_a_model_that_got_no_better_is_not_kept(small_log: ShopLog, tiny_bert: Path, tmp_path: Path) -> None:
    # The later sessions have their items exchanged for others of other groups: what was learnt earlier is wrong there.
    events = small_log.events.copy()
    session = small_log.session_of_event
    later = session >= round(len(small_log) * 0.8)
    shuffled = [f"i{item}" for item in np.random.default_rng(0).integers(1, 25, len(events))]
    events["item_id"] = np.where(later, shuffled, events["item_id"])
    log = ShopLog(events, small_log.catalogue)
    config = replace(TINY, steps=30, every=10, patience=2, learning_rate=0.05)
    encoder = fine_tune_text(log, tmp_path / "text", model=tiny_bert, config=config)
    facts = read_config(tmp_path / "text", "text_model")["slatewise_artefact"]["facts"]
    assert facts["kept"] is False
    plain = TextEncoder(tiny_bert, cache=tmp_path / "cache")
    texts = log.catalogue.texts()
    assert encoder.encode(texts) == pytest.approx(plain.encode(texts), abs=1e-6)


def test_without_peft_the_error_says_what_to_install(
    small_log: ShopLog, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "peft":
            raise ModuleNotFoundError(f"No module named {name!r}", name="peft")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "slatewise\[lora\]"') as caught:
        fine_tune_text(small_log, tmp_path / "text", model=tiny_bert, config=TINY)
    assert caught.value.name == "peft"
    assert not list(tmp_path.iterdir())


def test_a_log_with_too_little_and_settings_out_of_range_are_refused(
    small_log: ShopLog, tiny_bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(EvidenceError, match="needs 200 pairs of items"):
        fine_tune_text(small_log.part(np.arange(30)), tmp_path / "text", model=tiny_bert, config=TINY)
    with pytest.raises(ValueError, match="rank must be at least 1"):
        FineTuneConfig(rank=0)
    with pytest.raises(ValueError, match="validation_fraction"):
        FineTuneConfig(validation_fraction=1.0)
    assert not list(tmp_path.iterdir())


def test_the_card_of_a_text_model_is_read_and_a_broken_one_passed_over(tiny_bert: Path, tmp_path: Path) -> None:
    assert TextEncoder(tiny_bert).card["license"] == "apache-2.0"
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((tiny_bert / name).read_bytes())
    assert TextEncoder(tmp_path).card == {}
    (tmp_path / "README.md").write_text("---\nlicense: [apache\n---\n")
    assert TextEncoder(tmp_path).card == {}


def test_the_record_of_how_a_folder_was_made_does_not_change_its_vectors_names(tiny_bert: Path, tmp_path: Path) -> None:
    for path in tiny_bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((tmp_path / "config.json").read_text())
    found = []
    for created in ("2026-01-01", "2026-01-02"):
        (tmp_path / "config.json").write_text(json.dumps({**settings, "slatewise_artefact": {"created": created}}))
        found.append(TextEncoder(tmp_path).fingerprint)
    assert found[0] == found[1]
