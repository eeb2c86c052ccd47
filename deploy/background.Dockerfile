# Batches, expiry and webhooks (arq). The same parts as the gateway, no model library.
# Build from the repository's root: docker build -f deploy/background.Dockerfile .
FROM python:3.11-slim AS build
WORKDIR /src
# What is installed changes seldom, the sources often: so the first layers are built once.
COPY pyproject.toml constraints.txt samples.txt ./
COPY deploy/requirements.py deploy/
RUN python -m venv /opt/millstream \
 && python deploy/requirements.py gateway s3 otel > /tmp/requirements.txt \
 && /opt/millstream/bin/pip install --no-cache-dir -c constraints.txt -r /tmp/requirements.txt
COPY . .
RUN /opt/millstream/bin/pip install --no-cache-dir -c constraints.txt --no-deps .

# Which Python packages the image has, as CycloneDX: written by CycloneDX's generator, which does not get into the image.
FROM python:3.11-slim AS sbom
RUN python -m venv /opt/sbom && /opt/sbom/bin/pip install --no-cache-dir cyclonedx-bom==7.5.0
COPY --from=build /opt/millstream /opt/millstream
COPY pyproject.toml /
RUN /opt/sbom/bin/cyclonedx-py environment --pyproject /pyproject.toml --output-reproducible -o /sbom.json /opt/millstream/bin/python

FROM python:3.11-slim
# whoever gives containers a user of their own choice puts these into group 0: the home is that group's too
RUN useradd --create-home --uid 10001 millstream \
 && install -d -o millstream /home/millstream/files \
 && chgrp -R 0 /home/millstream && chmod -R g=u /home/millstream
COPY --from=build /opt/millstream /opt/millstream
COPY --from=sbom /sbom.json /opt/millstream/sbom.json
ENV HOME=/home/millstream PATH=/opt/millstream/bin:$PATH PYTHONUNBUFFERED=1
USER millstream
WORKDIR /home/millstream
STOPSIGNAL SIGTERM
ENTRYPOINT ["millstream"]
CMD ["background"]
# What this image was built from: only whoever builds it knows (docs/operating/upgrading.md).
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="millstream background" \
      org.opencontainers.image.description="Millstream: background process" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
