import gzip
from pathlib import Path

import pandas as pd
import pytest

from slatewise.datasets import SOURCES, IngestConfig, describe_sources, ingest, read_quarantine
from slatewise.errors import LogFormatError

REES46 = """\
event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde
2019-10-01 00:00:00 UTC,view,3900821,2053013552326770905,appliances.environment.water_heater,aqua,33.20,554748717,9333
2019-10-01 00:00:01 UTC,view,1307067,2053013558920217191,computers.notebook,lenovo,251.74,550050854,7c90
2019-10-01 00:05:14 UTC,cart,1307067,2053013558920217191,computers.notebook,lenovo,249.00,550050854,7c90
2019-10-01 00:06:02 UTC,purchase,1307067,2053013558920217191,computers.notebook,lenovo,249.00,550050854,7c90
2019-10-01 00:07:00 UTC,remove_from_cart,5800823,1487580006317032337,,,0.38,550050854,
"""

EVENTS = """\
timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433224214164,992329,view,248676,
1433221999827,111016,addtocart,318965,
1433222276276,599528,transaction,356475,4000
1433222276277,599528,wishlist,356475,
"""
PROPERTIES = """\
timestamp,itemid,property,value
1435460400000,355908,categoryid,1338
1433041200000,355908,categoryid,999
1441508400000,248676,888,1116713 960601 n277.200
1439089200000,248676,available,1
1442113200000,248676,available,0
1433646000000,248676,categoryid,1016
"""
TREE = "categoryid,parentid\n1016,213\n213,169\n169,\n1338,1278\n"


def test_rees46_months_are_read_as_published(tmp_path: Path) -> None:
    (tmp_path / "2019-Oct.csv.gz").write_bytes(gzip.compress(REES46.encode()))
    log = ingest(tmp_path / "2019-Oct.csv.gz", tmp_path / "log", source="rees46")
    assert log.facts["rows"]["kept"] == 6
    assert log.events["event"].tolist() == ["view", "view", "view", "cart", "purchase", "uncart"]
    # The row without a session gets one of its own; the others keep theirs.
    assert log.events["session_id"].tolist()[-2:] == ["7c90", "550050854:0"]
    items = log.catalogue.frame.set_index("item_id").to_dict("index")
    assert items["3900821"]["text"] == "water heater"
    assert items["3900821"]["category"] == "appliances / environment / water heater"
    assert items["3900821"]["brand"] == "aqua"
    assert items["1307067"]["price"] == 249.0
    assert (items["44600062"]["text"], items["44600062"]["category"]) == ("44600062", "2103807459595387724")
    assert log.facts["items_without_text"] == 2


def test_retailrocket_is_read_with_its_properties_and_tree(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "events.csv").write_text(EVENTS)
    lines = PROPERTIES.splitlines(keepends=True)
    (raw / "item_properties_part1.csv").write_text("".join(lines[:4]))
    (raw / "item_properties_part2.csv").write_text(lines[0] + "".join(lines[4:]))
    (raw / "category_tree.csv").write_text(TREE)
    log = ingest(raw, tmp_path / "log", source="retailrocket")
    assert log.events["event"].tolist() == ["view", "cart", "purchase", "view"]
    assert log.events["time"].iloc[0] == pd.Timestamp("2015-06-02 05:02:12.117", tz="UTC")
    assert log.events["session_id"].tolist() == ["257597:0", "111016:0", "599528:0", "992329:0"]
    assert log.facts["quarantined"] == {"unknown event type": 1}
    frame = log.catalogue.frame.set_index("item_id")
    # The latest category counts, and its path is told from the root.
    assert frame.loc["355908", "category"] == "1278 / 1338"
    assert frame.loc["248676", "category"] == "169 / 213 / 1016"
    assert frame["available"].to_dict() == {"248676": False, "318965": True, "355908": True, "356475": True}
    assert frame.loc["318965", "text"] == "318965"


def test_bad_rows_of_item_tables_are_set_aside_and_are_no_rows_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(EVENTS)
    bad = "xx,355908,categoryid,7\n1433041200000,,available,0\n1433041200000,355908\n"
    (tmp_path / "item_properties.csv").write_text(PROPERTIES + bad)
    (tmp_path / "category_tree.csv").write_text(TREE + ",7\n5\n")
    log = ingest(tmp_path, tmp_path / "log", source="retailrocket")
    assert log.facts["quarantined"] == {
        "wrong number of columns": 2,
        "unknown event type": 1,
        "catalogue: time is not a number": 1,
        "catalogue: no item_id": 1,
        "catalogue: no categoryid": 1,
    }
    aside = read_quarantine(tmp_path / "log")
    timeless = aside[aside["reason"] == "catalogue: time is not a number"]
    assert timeless[["file", "line", "value"]].to_numpy().tolist() == [["item_properties.csv", 8, "xx"]]
    rows = dict(log.facts["rows"])
    assert (rows["quarantined"], rows.pop("read")) == (1, sum(rows.values()))
    assert log.catalogue.frame.set_index("item_id").loc["355908", "category"] == "1278 / 1338"


def test_bad_rows_of_the_layout_of_2008_are_set_aside(tmp_path: Path) -> None:
    head = "month,day,order,session_id,page1_category,page2_product_code,colour,location,model_photography,price,page\n"
    (tmp_path / "clicks.csv").write_text(head + "4,1,1,7,1,A13,1,5,1,28,1\n")
    layout = "page2_product_code,cat,price,colour,photo\nA13,1,28,beige,en face\n,1,28,red,profile\n"
    (tmp_path / "layout.csv").write_text(layout + "B1,2,dear,red,profile\nB2,2,-1,red,profile\nB3\n")
    log = ingest(tmp_path, tmp_path / "log", source="eshop2008")
    assert log.facts["quarantined"] == {
        "wrong number of columns": 1,
        "catalogue: no item_id": 1,
        "catalogue: price is not a number": 1,
        "catalogue: price is negative": 1,
    }
    assert log.facts["rows"]["quarantined"] == 0
    assert log.catalogue.frame["item_id"].tolist() == ["A13"]


def test_a_path_that_is_not_there_is_named_by_sources_of_named_files(tmp_path: Path) -> None:
    for source in ("retailrocket", "ga360"):
        with pytest.raises(LogFormatError, match="nowhere does not exist"):
            ingest(tmp_path / "nowhere", tmp_path / "log", source=source)


def test_retailrocket_is_read_without_its_item_tables(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(EVENTS)
    log = ingest(tmp_path / "events.csv", tmp_path / "log", source="retailrocket")
    assert len(log.catalogue) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(LogFormatError, match=r"no file events\.parquet or events\.csv in .*empty; found nothing"):
        ingest(tmp_path / "empty", tmp_path / "more", source="retailrocket")


def test_a_table_is_read_through_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "orders.tsv"
    path.write_text(
        "wann\twer\twas\tart\tname\n01.05.2024 10:00\t7\tA\tbuy\tTeapot, blue\n01.05.2024 10:01\t7\tB\tlook\t\n"
    )
    config = IngestConfig(
        time_format="%d.%m.%Y %H:%M",
        timezone="Europe/Berlin",
        event_names={"buy": "purchase", "look": "view"},
        currency="EUR",
    )
    mapping = {"time": "wann", "shopper_id": "wer", "item_id": "was", "event": "art", "text": "name"}
    log = ingest(path, tmp_path / "log", source="table", mapping=mapping, config=config)
    assert log.events[["item_id", "event"]].to_numpy().tolist() == [["A", "purchase"], ["B", "view"]]
    assert log.events["time"].iloc[0] == pd.Timestamp("2024-05-01 08:00", tz="UTC")
    assert log.catalogue.frame["text"].tolist() == ["Teapot, blue", "B"]
    assert log.facts["currency"] == "EUR"


def test_a_table_says_which_column_is_missing_and_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("wann,wer,was\n2024-05-01,7,A\n")
    mapping = {"time": "wann", "shopper_id": "wer", "item_id": "was"}
    with pytest.raises(LogFormatError, match=r"no column for 'event'.*--default-event; found wann, wer, was"):
        ingest(path, tmp_path / "log", source="table", mapping=mapping)
    with pytest.raises(LogFormatError, match="lacks column 'sku'"):
        ingest(path, tmp_path / "log", source="table", mapping={**mapping, "item_id": "sku"})
    with pytest.raises(LogFormatError, match="'colour', which is none of our columns"):
        ingest(path, tmp_path / "log", source="table", mapping={"colour": "was"})
    made = ingest(
        path, tmp_path / "log", source="table", mapping=mapping, config=IngestConfig(default_event="purchase")
    )
    assert made.events["event"].tolist() == ["purchase"]


def test_invoices_with_cancellations_and_nameless_customers_are_read(shared_data: Path, tmp_path: Path) -> None:
    mapping = {
        "shopper_id": "CustomerID",
        "session_id": "InvoiceNo",
        "time": "InvoiceDate",
        "item_id": "StockCode",
        "text": "Description",
        "quantity": "Quantity",
        "price": "UnitPrice",
    }
    config = IngestConfig(default_event="purchase", currency="GBP")
    path = shared_data / "online_retail" / "lines.parquet"
    log = ingest(path, tmp_path / "log", source="table", mapping=mapping, config=config)
    assert log.facts["quarantined"] == {"no shopper_id": 135_080, "quantity is not positive": 8_905}
    assert log.facts["rows"]["read"] == 541_909
    assert log.facts["rows"]["bots"] == 0
    assert log.facts["rows"]["kept"] + log.facts["rows"]["duplicates"] == 541_909 - 135_080 - 8_905
    assert log.catalogue.frame.set_index("item_id").loc["85123A", "text"] == "WHITE HANGING HEART T-LIGHT HOLDER"


def test_clicks_of_2008_are_read_from_the_copy_with_its_layout(shared_data: Path, tmp_path: Path) -> None:
    log = ingest(shared_data / "eshop2008", tmp_path / "log", source="eshop2008")
    assert log.facts["rows"]["kept"] == log.facts["events"]["view"] == 132_768
    assert len(log) == log.facts["sessions"] == 19_477
    assert len(log.catalogue) == 217
    assert (log.facts["clock"], log.facts["positions"]) == ("order", "layout-confounded")
    assert log.catalogue.frame.set_index("item_id").loc["1", "text"] == "trousers navy blue, en face"
    assert log.events["item_id"].tolist()[:4] == ["5", "8", "71", "52"]
    assert log.events["time"].diff().iloc[1].total_seconds() == log.facts["seconds_per_click"]


def test_clicks_of_2008_are_read_as_published(tmp_path: Path) -> None:
    header = "year;month;day;order;country;session ID;page 1 (main category);page 2 (clothing model);colour;location;"
    lines = [
        header + "model photography;price;price 2;page",
        "2008;4;1;1;29;1;1;A13;1;5;1;28;2;1",
        "2008;4;1;2;29;1;4;P72;14;6;2;33;2;2",
        "2008;13;1;3;29;1;4;P72;14;6;2;33;2;2",
    ]
    path = tmp_path / "e-shop clothing 2008.csv"
    path.write_text("\n".join(lines))
    log = ingest(path, tmp_path / "log", source="eshop2008")
    assert log.catalogue.frame["text"].tolist() == ["trousers beige, en face", "sale white, profile"]
    # Place 6 of page 2 is the twelfth place, counted from 0.
    assert log.events["position"].tolist() == [4, 11]
    assert log.events["time"].dt.strftime("%F %T").tolist() == ["2008-04-01 00:00:00", "2008-04-01 00:00:30"]
    assert log.facts["rows"]["quarantined"] == 1


def test_a_file_of_another_kind_is_refused_by_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("colour,size\nred,1\n")
    for name in SOURCES:
        with pytest.raises(LogFormatError):
            ingest(path, tmp_path / "log", source=name)
    assert not (tmp_path / "log").exists()


def test_every_source_describes_itself() -> None:
    listing = describe_sources()
    for name, source in SOURCES.items():
        assert name == source.name
        assert f"{source.summary}" in listing
        assert source.about in describe_sources(name)
        assert all(len(line) <= 120 for line in source.about.splitlines())
    with pytest.raises(ValueError, match="source must be one of"):
        describe_sources("shopify")
