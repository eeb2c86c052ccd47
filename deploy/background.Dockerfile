# Batches, expiry and webhooks (arq). The same parts as the gateway, no model library.
# Build from the repository's root: docker build -f deploy/background.Dockerfile .
FROM python:3.11-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/millstream \
 && /opt/millstream/bin/pip install --no-cache-dir -c constraints.txt '.[gateway]'

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 millstream \
 && install -d -o millstream -g millstream /home/millstream/files
COPY --from=build /opt/millstream /opt/millstream
ENV PATH=/opt/millstream/bin:$PATH PYTHONUNBUFFERED=1
USER millstream
WORKDIR /home/millstream
STOPSIGNAL SIGTERM
ENTRYPOINT ["millstream"]
CMD ["background"]
