"""The admin site: the dashboard, its downloads, and the read-only pages."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest
from conftest import make_event
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import translation

from myometrics_analytics.dashboard.charts import Point, chart_make, nice_step
from myometrics_analytics.models import DailyRollup
from myometrics_analytics.rollups import changes_fold

pytestmark = pytest.mark.django_db
PAGE = "/admin/myometrics_analytics/dashboard/"


@pytest.fixture
def browser(administrator):
    administrator.is_superuser = True
    administrator.save()
    client = Client()
    client.force_login(administrator)
    return client


@pytest.fixture
def _uploads(make_user, merge_events):
    user = make_user(full_name="North Clinic", last_login=datetime.now(timezone.utc))
    merge_events(
        make_event(
            user,
            "upload_failed" if back % 9 == 0 else "upload_completed",
            at=datetime.now(timezone.utc) - timedelta(days=back),
            diagnosis="=Normal" if back % 3 else "Myocardial <b>infarction</b>",
            processing_time=40,
        )
        for back in range(100)
    )
    changes_fold()


def charts_of(html):
    return [
        ElementTree.fromstring(svg)
        for svg in re.findall(r'<svg class="mm-columns".*?</svg>', html, re.DOTALL)
    ]


@pytest.mark.parametrize("days", [1, 7, 30, 90, 365])
@pytest.mark.usefixtures("_uploads")
def test_dashboard_shows_the_numbers_of_the_api(browser, report, days):
    html = browser.get(PAGE, {"days": days}).content.decode()
    answer = report(days=days)
    daily, weekly, monthly = charts_of(html)
    for chart, name in ((daily, "daily"), (weekly, "weekly"), (monthly, "monthly")):
        rows = answer["user_activity"][f"{name}_uploads"]
        titles = [title.text for title in chart.findall("g/title")]
        assert [int(title.rpartition(": ")[2].replace(",", "")) for title in titles] == [
            row["count"] for row in rows
        ]
    assert f"{answer['system_health']['success_rate']:.1f} %" in html
    assert f"{answer['system_health']['total_uploads']:,}" in html


@pytest.mark.usefixtures("_uploads")
def test_chart_has_name_description_and_table(browser):
    html = browser.get(PAGE).content.decode()
    for chart in charts_of(html):
        names = chart.attrib["aria-labelledby"].split()
        assert chart.attrib["role"] == "img"
        assert [chart.find("title").attrib["id"], chart.find("desc").attrib["id"]] == names
    assert html.count('<caption class="mm-hidden">') == 3
    assert html.count("<details") == 3
    tables = re.findall(r"<tbody>(.*?)</tbody>", html, re.DOTALL)
    assert tables[0].count("<tr>") == 30


@pytest.mark.usefixtures("_uploads")
def test_dashboard_has_no_script_or_inline_style(browser):
    ours = browser.get(PAGE).content.decode().partition('id="content-main"')[2]
    ours = ours.partition('id="footer"')[0]
    assert "<script" not in ours
    assert " style=" not in ours
    assert "http://" not in ours
    assert "https://" not in ours


@pytest.mark.usefixtures("_uploads")
def test_diagnoses_are_escaped(browser):
    html = browser.get(PAGE).content.decode()
    assert "Myocardial &lt;b&gt;infarction&lt;/b&gt;" in html
    assert "<b>infarction" not in html


@pytest.mark.usefixtures("_uploads")
def test_chart_numbers_have_a_decimal_point_in_every_language(browser):
    with translation.override("de"):
        html = browser.get(PAGE, headers={"accept-language": "de"}).content.decode()
    for chart in charts_of(html):
        for rect in chart.iter("rect"):
            assert re.fullmatch(r"[\d.]+%?", rect.attrib["x"])


@pytest.mark.usefixtures("_uploads")
def test_filters_apply_to_page_and_downloads(browser, report, settings):
    settings.MYOMETRICS_ANALYTICS = {"CLINIC_FIELD": "full_name"}
    html = browser.get(PAGE, {"diagnosis": "=Normal", "clinic": "North Clinic"}).content.decode()
    assert '<option value="North Clinic" selected>' in html
    assert "&amp;diagnosis=%3DNormal" in html
    answer = report(diagnosis="=Normal", clinic="North Clinic")
    file = browser.get(f"{PAGE}download.json", {"diagnosis": "=Normal", "clinic": "North Clinic"})
    assert file.json() == answer
    assert 0 < answer["system_health"]["total_uploads"] < 100


@pytest.mark.parametrize("query", [{"days": "0"}, {"days": "x"}, {"role": "admin"}])
def test_dashboard_rejects_invalid_query(browser, query):
    response = browser.get(PAGE, query)
    assert response.status_code == 400
    assert 'role="alert"' in response.content.decode()
    assert browser.get(f"{PAGE}download.json", query).status_code == 400


@pytest.mark.usefixtures("_uploads")
def test_json_download_equals_the_api_response(browser, report):
    file = browser.get(f"{PAGE}download.json", {"days": 7})
    assert file["Content-Disposition"] == 'attachment; filename="analytics-7-days.json"'
    assert file.json() == report(days=7)


@pytest.mark.usefixtures("_uploads")
def test_csv_download_has_every_number_and_no_formula(browser, report):
    file = browser.get(f"{PAGE}download.csv", {"days": 7})
    assert file["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(file.content.decode())))
    assert list(rows[0]) == ["section", "name", "value", "trend", "percentage_change"]
    answer = report(days=7)
    daily = [(row["name"], int(row["value"])) for row in rows if row["section"] == "daily_uploads"]
    expected = answer["user_activity"]["daily_uploads"]
    assert daily == [(row["date"], row["count"]) for row in expected]
    names = {row["name"] for row in rows if row["section"] == "diagnosis_trends"}
    assert names == {"'=Normal", "Myocardial <b>infarction</b>"}


def test_dashboard_is_for_administrators_only(make_user):
    client = Client()
    for page in (PAGE, f"{PAGE}download.csv", f"{PAGE}download.json"):
        assert client.get(page).status_code == 302
    outsider = make_user()
    client.force_login(outsider)
    assert client.get(PAGE).status_code == 302
    client.force_login(make_user(is_staff=True))
    assert client.get(PAGE).status_code == 200


def test_dashboard_is_visible_to_staff_with_permission(make_user, settings):
    settings.MYOMETRICS = {
        **settings.MYOMETRICS,
        "IS_ADMINISTRATOR": "test_dashboard.never",
    }
    staff = make_user(is_staff=True)
    client = Client()
    client.force_login(staff)
    assert client.get(PAGE).status_code == 403
    assert client.get(f"{PAGE}download.csv").status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_dashboard"))
    assert client.get(PAGE).status_code == 200


def never(user):
    return False


@pytest.mark.usefixtures("_uploads")
@pytest.mark.parametrize(
    "model", [m.__name__ for m in apps.get_app_config("myometrics_analytics").get_models()]
)
def test_model_has_a_read_only_admin_page(browser, model):
    assert admin.site.is_registered(apps.get_model("myometrics_analytics", model))
    page = f"/admin/myometrics_analytics/{model.lower()}/"
    assert browser.get(page).status_code == 200
    assert browser.get(f"{page}add/").status_code == 403


@pytest.mark.usefixtures("_uploads")
def test_admin_finds_uploads_by_id_and_by_user(browser, make_user, publish_upload):
    publish_upload(make_user(), upload_id="the-needle")
    found = browser.get("/admin/myometrics_analytics/upload/", {"q": "the-needle"})
    assert "1 upload" in found.content.decode()
    user = make_user()
    publish_upload(user, upload_id="of-user")
    found = browser.get("/admin/myometrics_analytics/upload/", {"q": user.email})
    assert "of-user" in found.content.decode()


def test_upload_list_needs_few_queries(
    browser, make_user, publish_upload, django_assert_max_num_queries
):
    for _ in range(5):
        publish_upload(make_user())
    with django_assert_max_num_queries(8):
        assert browser.get("/admin/myometrics_analytics/upload/").status_code == 200


@pytest.mark.parametrize(
    ("largest", "step"),
    [(0, 1), (1, 1), (4, 1), (5, 2), (9, 5), (21, 10), (99, 25), (101, 50), (4001, 2000)],
)
def test_axis_has_round_steps(largest, step):
    assert nice_step(largest) == step


def test_chart_fills_its_width_within_its_height():
    chart = chart_make("c", "C", "uploads", [Point(f"d{n}", n) for n in range(365)])
    assert float(chart["columns"][0]["hit_x"].rstrip("%")) == 0
    last = chart["columns"][-1]
    assert float(last["hit_x"].rstrip("%")) + float(last["hit_width"].rstrip("%")) == pytest.approx(
        100, abs=0.01
    )
    assert all(0 <= float(column["y"]) <= chart["height"] for column in chart["columns"])
    assert len(chart["labels"]) == 5


@pytest.fixture
def _many_diagnoses():
    today = datetime.now(timezone.utc).date()
    DailyRollup.objects.bulk_create(
        (
            DailyRollup(day=today, diagnosis=f"D{n:05}", status="completed", uploads=1)
            for n in range(30_000)
        ),
        batch_size=1000,
    )


@pytest.mark.usefixtures("_many_diagnoses")
def test_dashboard_and_downloads_list_200_diagnoses(browser):
    html = browser.get(PAGE).content.decode()
    assert html.count('<tr>\n          <th scope="row">D') == 200
    assert html.count('<option value="D') == 200
    assert len(html) < 500_000
    rows = csv.reader(io.StringIO(browser.get(f"{PAGE}download.csv").content.decode()))
    assert sum(row[0] == "diagnosis_trends" for row in rows) == 200
    assert len(browser.get(f"{PAGE}download.json").json()["diagnosis_trends"]) == 200


@pytest.mark.usefixtures("_many_diagnoses")
def test_selected_filter_is_an_option_beyond_the_first_200(browser):
    html = browser.get(PAGE, {"diagnosis": "D29999"}).content.decode()
    assert '<option value="D29999" selected>' in html
