# A worker on NVIDIA GPUs: PyPI's torch carries CUDA, the host needs the driver and NVIDIA's container toolkit.
# Build from the repository's root: docker build -f deploy/worker-gpu.Dockerfile .
FROM python:3.11-slim AS build
WORKDIR /src
# What is installed changes seldom, the sources often: so the first layers are built once.
COPY pyproject.toml constraints.txt samples.txt ./
COPY deploy/requirements.py deploy/
RUN python -m venv /opt/millstream \
 && python deploy/requirements.py worker otel > /tmp/requirements.txt \
 && /opt/millstream/bin/pip install --no-cache-dir -c constraints.txt -r /tmp/requirements.txt \
 && /opt/millstream/bin/pip install --no-cache-dir --no-deps -r samples.txt
COPY . .
RUN /opt/millstream/bin/pip install --no-cache-dir -c constraints.txt --no-deps .

# Which Python packages the image has, as CycloneDX: written by CycloneDX's generator, which does not get into the image.
FROM python:3.11-slim AS sbom
RUN python -m venv /opt/sbom && /opt/sbom/bin/pip install --no-cache-dir cyclonedx-bom==7.5.0
COPY --from=build /opt/millstream /opt/millstream
COPY pyproject.toml /
RUN /opt/sbom/bin/cyclonedx-py environment --pyproject /pyproject.toml --output-reproducible -o /sbom.json /opt/millstream/bin/python

FROM python:3.11-slim
# the cache folder exists in the image so that a fresh volume over it belongs to the user
# whoever gives containers a user of their own choice puts these into group 0: the home is that group's too
RUN useradd --create-home --uid 10001 millstream \
 && install -d -o millstream /home/millstream/.cache \
 && chgrp -R 0 /home/millstream && chmod -R g=u /home/millstream
COPY --from=build /opt/millstream /opt/millstream
COPY --from=sbom /sbom.json /opt/millstream/sbom.json
ENV HOME=/home/millstream PATH=/opt/millstream/bin:$PATH PYTHONUNBUFFERED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER millstream
WORKDIR /home/millstream
STOPSIGNAL SIGTERM
ENTRYPOINT ["millstream"]
CMD ["worker"]
# What this image was built from: only whoever builds it knows (docs/operating/upgrading.md).
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="millstream worker-gpu" \
      org.opencontainers.image.description="Millstream: worker on GPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
