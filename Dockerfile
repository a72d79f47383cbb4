# syntax=docker/dockerfile:1
# The composed site. One image runs web, worker, beat and migrate; see compose.yaml.
# Everything is installed by hash: the base image by digest, packages from lock files (python3 dev lock).

ARG PYTHON=docker.io/library/python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY example_project/requirements.txt example_project/requirements-build.txt example_project/
RUN python -m venv /build && python -m venv --without-pip /venv \
    && /build/bin/pip install --no-deps --require-hashes -r example_project/requirements-build.txt \
    && /build/bin/pip --python /venv install --no-deps --require-hashes -r example_project/requirements.txt
COPY packages packages
COPY example_project example_project
# The packages of this repository, built without a package index.
RUN /build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels \
        ./packages/* ./example_project \
    && /build/bin/pip --python /venv install --no-deps --no-index /wheels/*.whl \
    && /build/bin/pip --python /venv check \
    && /venv/bin/python -m compileall -q /venv/lib

FROM ${PYTHON}
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
COPY example_project/manage.py example_project/healthcheck.py ./
USER site
# The only folder that is written: exported files (and the database, if it is SQLite). Everything else
# can be read-only; mount /tmp as tmpfs.
VOLUME /data
EXPOSE 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "healthcheck.py"]
CMD ["gunicorn", "--config", "python:config.gunicorn"]
