# The gateway: HTTP in, event streams out. Holds no model library.
# Build from the repository's root: docker build -f deploy/gateway.Dockerfile .
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

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 millstream \
 && install -d -o millstream -g millstream /home/millstream/files
COPY --from=build /opt/millstream /opt/millstream
ENV PATH=/opt/millstream/bin:$PATH PYTHONUNBUFFERED=1
USER millstream
WORKDIR /home/millstream
EXPOSE 8000
STOPSIGNAL SIGTERM
# exec form: the process is number 1 itself and gets the stop signal
ENTRYPOINT ["millstream"]
CMD ["gateway"]
