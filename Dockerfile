# syntax=docker/dockerfile:1
# The composed site. One image runs every line of example_project/Procfile; see compose.yaml.

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN python -m venv /venv
COPY packages packages
COPY example_project example_project
RUN /venv/bin/pip install \
    ./packages/myometrics-core ./packages/myometrics-auth ./packages/myometrics-audit \
    ./packages/myometrics-analytics ./packages/myometrics-notifications \
    "./example_project[opentelemetry,production]" \
    && /venv/bin/python -m compileall -q /venv/lib

FROM python:3.13-slim
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=config.settings \
    DATA_DIR=/data \
    PORT=8001
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin site \
    && install -d -o site -g site /data
WORKDIR /app
COPY --from=build /venv /venv
COPY example_project/manage.py example_project/healthcheck.py example_project/Procfile ./
USER site
# All that is ever written: exports, beat's schedule (and the database, if it is SQLite). Everything
# else can be read-only; give /tmp as tmpfs.
VOLUME /data
EXPOSE 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "healthcheck.py"]
CMD ["gunicorn", "--config", "python:config.gunicorn"]
