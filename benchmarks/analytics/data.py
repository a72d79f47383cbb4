"""Fill a migrated PostgreSQL database with uploads of three years, and precomputed tables."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from myometrics_analytics.rollups import rollups_check

DAYS = 1096
USERS = 1000
DIAGNOSES = (
    "Normal",
    "Myocardial infarction",
    "Atrial fibrillation",
    "Left ventricular hypertrophy",
    "Bundle branch block",
    "Pericarditis",
    "Cardiomyopathy",
    "Valve stenosis",
)

UPLOADS = """
INSERT INTO myometrics_analytics_upload
  (user_id, upload_id, uploaded_at, day, status, diagnosis, diagnosis_rank, filename,
   filename_rank, file_size, file_size_rank, confidence, confidence_rank, processing_us,
   processing_us_rank)
SELECT users.ids[1 + n %% cardinality(users.ids)], 'upload-' || n, at,
       (at AT TIME ZONE 'UTC')::date, outcome.status,
       CASE WHEN outcome.status = 'completed'
            THEN names.all_of_them[1 + (n * 7 / 5) %% cardinality(names.all_of_them)]
            ELSE '' END,
       4, 'scan-' || n || '.jpg', 3, 2000000 + n %% 100000, 3, 0.9, 4,
       CASE WHEN outcome.status = 'completed' THEN 20000000 + (n * 7919) %% 60000000 END, 4
FROM generate_series(1::bigint, %(uploads)s::bigint) AS n,
     (SELECT array_agg(id ORDER BY id) AS ids FROM myometrics_auth_user) AS users,
     (SELECT %(diagnoses)s::text[] AS all_of_them) AS names,
     LATERAL (SELECT now() - n::float8 / %(uploads)s * %(days)s * interval '1 day') AS t(at),
     LATERAL (SELECT CASE WHEN n %% 20 = 0 THEN 'failed' WHEN n %% 50 = 1 THEN 'processing'
                     ELSE 'completed' END) AS outcome(status)
"""

READY = """
CREATE TABLE ready_daily AS
  SELECT day, count(*) AS uploads, count(*) FILTER (WHERE status = 'completed') AS completed,
         count(*) FILTER (WHERE status = 'failed') AS failed,
         coalesce(sum(processing_us), 0)::bigint AS processing_us,
         count(processing_us) AS processed
  FROM myometrics_analytics_upload GROUP BY day;
ALTER TABLE ready_daily ADD PRIMARY KEY (day);
CREATE TABLE ready_diagnosis AS
  SELECT day, diagnosis, count(*) AS uploads FROM myometrics_analytics_upload
  WHERE diagnosis <> '' GROUP BY day, diagnosis;
ALTER TABLE ready_diagnosis ADD PRIMARY KEY (day, diagnosis);
"""


def fill(uploads: int) -> None:
    """Write ``uploads`` facts of 1,000 users over three years, with rollups and tables."""
    _create_users()
    with connection.cursor() as cursor:
        cursor.execute(UPLOADS, {"uploads": uploads, "days": DAYS, "diagnoses": list(DIAGNOSES)})
        cursor.execute(READY)
    rollups_check()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _create_users() -> None:
    user_model, now = get_user_model(), timezone.now()
    user_model.objects.bulk_create(
        user_model(
            email=f"p{number}@bench.test",
            email_canonical=f"p{number}@bench.test",
            first_name="Pat",
            last_name=f"Number {number}",
            role="doctor",
            clinic_name=f"Clinic {number % 40}",
            last_login=now - timedelta(hours=number % 1000),
        )
        for number in range(USERS)
    )
