#!/bin/bash
# Build docker-compose.yml and run it for real, also where no container engine is installed and no registry of images is
# reached: a private dockerd and Compose from Debian's packages, stand-ins for the base images made by debootstrap, all
# containers in a network namespace of their own. Nothing is installed on the machine; everything lies in one folder.
#
#   deploy/compose/check.sh [FOLDER]     as root on Debian; 5 GB in FOLDER (default: a new one in /var/tmp), 8 minutes
#
# What is checked is the last commit. PYTHON is an interpreter with `openai`, `httpx` and `httpx-sse` (the tests' own
# environment has them). KEEP=1 leaves the daemon running and says how to reach it. REAL=1 also serves the sample model.
# TORCH_INDEX as in .env.example; unset, the CPU wheel is looked for with this machine's pip and served on loopback.
set -u
HERE=$(realpath "$(dirname "$0")") CHECKOUT=$(realpath "$(dirname "$0")/../..")
PYTHON=$(realpath -s "${PYTHON:-$(command -v python3)}")
LAB=$(realpath -m "${1:-$(mktemp -d /var/tmp/compose.XXXX)}")
mkdir -p "$LAB"; cd "$LAB" || exit 2
PASSED=0 FAILED=0 STARTED=$SECONDS INDEX_PORT=${INDEX_PORT:-18749} PORT=8000

say() { printf '%4ds  %s\n' $((SECONDS - STARTED)) "$*"; }
die() { say "stopped: $*"; stop_daemon; exit 2; }
check() { # check WHAT COMMAND...
  local what=$1; shift
  if "$@" > check.out 2>&1; then PASSED=$((PASSED + 1)); say "ok    $what"
  else FAILED=$((FAILED + 1)); say "FAIL  $what"; tail -5 check.out | cut -c1-300 | sed 's/^/        /'; fi
}

# --- tools: unpacked, not installed. Compose 2 is in Debian 13 and later; its programs run on Debian 12 as well. ------
. /etc/os-release
T=$LAB/tools
export PATH=$T/usr/bin:$T/usr/sbin:$T/usr/libexec/docker:$PATH LD_LIBRARY_PATH=$T/usr/lib/x86_64-linux-gnu
export XTABLES_LIBDIR=$T/usr/lib/x86_64-linux-gnu/xtables
export DOCKER_HOST=unix://$LAB/docker.sock DOCKER_CONFIG=$LAB/docker-config
MIRROR=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/$' | head -1)

tools() {
  mkdir -p next/etc/apt next/var/lib/apt/lists/partial next/var/cache/apt/archives/partial next/var/lib/dpkg debs "$T"
  : > next/var/lib/dpkg/status
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keys] $MIRROR trixie main" > next/etc/apt/sources.list
  printf 'Dir "%s/next";\nDir::State::status "%s/next/var/lib/dpkg/status";\n' "$LAB" "$LAB" > next/apt.conf
  export APT_CONFIG=$LAB/next/apt.conf; apt-get update -qq
  (cd debs && apt-get download -qq docker.io containerd docker-cli docker-compose docker-buildx tini)
  unset APT_CONFIG; apt-get update -qq
  local network="iptables libip4tc2 libip6tc2 libxtables12 libnftnl11 libnetfilter-conntrack3 libnfnetlink0"
  (cd debs && apt-get download -qq debootstrap runc $network)
  for deb in debs/*.deb; do dpkg -x "$deb" "$T"; done
  ln -sf iptables-nft "$T/usr/sbin/iptables"; ln -sf ip6tables-nft "$T/usr/sbin/ip6tables"
  mkdir -p docker-config/cli-plugins; ln -sf "$T"/usr/libexec/docker/cli-plugins/* docker-config/cli-plugins/
} 2> tools.log
[ -x "$T/usr/sbin/dockerd" ] || tools
docker compose version > /dev/null || die "no docker compose: see tools.log"
say "tools: $(dockerd --version | cut -d, -f1), $(docker compose version)"

# --- two daemons over one store: the build's on the machine's network (pip), the run's in a namespace of its own. -----
FOLDERS=(--data-root "$LAB/data" --exec-root "$LAB/run" --pidfile "$LAB/dockerd.pid" -H "$DOCKER_HOST")
wait_daemon() {
  for _ in $(seq 60); do docker info > /dev/null 2>&1 && return; sleep 1; done
  tail -3 dockerd.log; return 1
}
build_daemon() {
  local alone="--bridge=none --iptables=false --ip6tables=false --ip-forward=false"
  setsid nohup dockerd "${FOLDERS[@]}" $alone > dockerd.log 2>&1 &
  wait_daemon
}
run_daemon() {
  setsid nohup unshare --net sh -c 'ip link set lo up; exec dockerd "$@"' sh "${FOLDERS[@]}" > dockerd.log 2>&1 &
  wait_daemon
}
stop_daemon() {
  local pid; pid=$(cat "$LAB/dockerd.pid" 2> /dev/null) || return 0
  kill "$pid"; for _ in $(seq 60); do [ -e "/proc/$pid" ] || break; sleep 1; done
  umount "$LAB"/run/netns/* 2> /dev/null; true
}
inside() { nsenter --net="/proc/$(cat "$LAB/dockerd.pid")/ns/net" "$@"; }

# --- images -----------------------------------------------------------------------------------------------------------
base() { # Debian with Python where the official image has it, and this machine's package index
  local wanted=python3,python3-venv,python3-pip,ca-certificates
  DEBOOTSTRAP_DIR=$T/usr/share/debootstrap debootstrap --variant=minbase --include="$wanted" "$VERSION_CODENAME" \
    root "$MIRROR" > debootstrap.log 2>&1 || return 1
  rm -rf root/var/cache/apt/archives/*.deb
  cp /etc/ssl/certs/ca-certificates.crt root/etc/ssl/certs/ca-certificates.crt
  tar -C root -c . | docker import - lab-debian > /dev/null
  rm -f root/usr/lib/python3.*/EXTERNALLY-MANAGED # so that it behaves as the official image
  for name in python python3; do ln -sf ../../bin/python3 "root/usr/local/bin/$name"; done
  ln -sf ../../bin/pip3 root/usr/local/bin/pip
  local kept="s/^(global|:env:)\.(index-url|trusted-host)='(.*)'/\2 = \3/p"
  { printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n'; "$PYTHON" -m pip config list | sed -nE "$kept"; } \
    > root/etc/pip.conf
  local path=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
  tar -C root -c . | docker import --change "ENV PATH=$path LANG=C.UTF-8" --change 'CMD ["python3"]' - "$PYTHON_IMAGE" \
    > /dev/null
}
redis_image() { # as the official one: protected mode off; its entrypoint gives /data to the user redis and becomes it
  mkdir -p redis; cat > redis/entrypoint.sh <<'SH'
#!/bin/sh
set -e
if [ "${1#-}" != "$1" ]; then set -- redis-server "$@"; fi
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . ! -user redis -exec chown redis '{}' +
  exec setpriv --reuid redis --regid redis --clear-groups -- "$0" "$@"
fi
[ "$1" != redis-server ] || set -- "$@" --protected-mode no
exec "$@"
SH
  chmod +x redis/entrypoint.sh; cat > redis/Dockerfile <<'DF'
FROM lab-debian
RUN groupadd -g 1000 redis && useradd -r -u 999 -g 1000 redis && mkdir /data && chown redis:redis /data \
 && apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server
COPY entrypoint.sh /usr/local/bin/
VOLUME /data
WORKDIR /data
ENTRYPOINT ["entrypoint.sh"]
CMD ["redis-server"]
DF
  docker build --network host -q -t "$REDIS_IMAGE" redis > redis.log 2>&1
}
torch_index() { # a package index on loopback with the CPU build of torch and what it needs
  local version; version=$(sed -n 's/^torch==//p' source/constraints.txt)
  if [ ! -d torch/files ]; then
    "$PYTHON" -m pip download -q --no-cache-dir -d torch/files -c source/constraints.txt "torch==$version+cpu" \
      > torch.log 2>&1 || return 1
  fi
  for wheel in torch/files/*.whl; do
    local name; name=$(basename "$wheel")
    local folder; folder=torch/simple/$(echo "${name%%-*}" | tr '_.A-Z' '--a-z')
    mkdir -p "$folder"; ln -f "$wheel" "$folder/$name"
    echo "<a href=\"${name//+/%2B}\">$name</a>" > "$folder/index.html"
  done
  "$PYTHON" -m http.server "$INDEX_PORT" --bind 127.0.0.1 --directory torch > index.log 2>&1 &
  INDEX_PID=$!; sleep 1
  export TORCH_INDEX="http://127.0.0.1:$INDEX_PORT/simple" # the same each time, or layers built before do not count
}

rm -rf source; mkdir source; git -C "$CHECKOUT" archive HEAD | tar -x -C source || exit 2
PYTHON_IMAGE=$(sed -n 's/^FROM \(python:[^ ]*\).*/\1/p' source/deploy/gateway.Dockerfile | head -1)
REDIS_IMAGE=$(sed -n 's/^ *image:.*\(redis:[^}]*\)}.*/\1/p' source/docker-compose.yml | head -1)
cat > build.yml <<'YML'
services:
  gateway: {build: {network: host}}
  background: {build: {network: host}}
  worker: {build: {network: host}}
YML
cat > simulated.yml <<'YML'
services:
  gateway: {pull_policy: never}
  background: {pull_policy: never}
  worker:
    pull_policy: never
    environment:
      MILLSTREAM_ENGINE: simulated
      MILLSTREAM_MODEL: lab
      MILLSTREAM_SIMULATED_RATE: "10"
      MILLSTREAM_SIMULATED_LENGTH: "150"
YML
dc() { (cd "$LAB/source" && docker compose "$@"); }
sim() { dc -f docker-compose.yml -f ../simulated.yml "$@"; }

stop_daemon # of an earlier run that was cut off
build_daemon || die "dockerd does not start: see dockerd.log"
docker ps -aq | xargs -r docker rm -f > /dev/null; docker volume ls -q | xargs -r docker volume rm > /dev/null
[ -n "${KEEP:-}" ] || trap stop_daemon EXIT
docker image inspect "$PYTHON_IMAGE" > /dev/null 2>&1 || base || die "debootstrap: see debootstrap.log"
docker image inspect "$REDIS_IMAGE" > /dev/null 2>&1 || redis_image || die "redis image: see redis.log"
say "stand-ins for $PYTHON_IMAGE and $REDIS_IMAGE"
[ -n "${TORCH_INDEX:-}" ] || torch_index || say "no CPU wheel of torch at hand: the worker image gets CUDA"
IMAGE_VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' source/pyproject.toml)
IMAGE_REVISION=$(git -C "$CHECKOUT" rev-parse HEAD)
IMAGE_SOURCE=https://example.org/your/copy
export IMAGE_VERSION IMAGE_REVISION IMAGE_SOURCE
for service in gateway background worker; do
  check "docker compose build $service" dc -f docker-compose.yml -f ../build.yml build -q "$service"
done
echo "# changed" >> source/gateway/app.py
check "a changed source line installs nothing anew" \
  bash -c 'cd source && docker compose -f docker-compose.yml -f ../build.yml build --progress plain gateway 2>&1 |
    grep -A1 "requirements.txt" | grep -q CACHED'
[ -z "${INDEX_PID:-}" ] || kill "$INDEX_PID" 2> /dev/null
labelled() { # labelled SERVICE: its image says what it was built from
  local told= each
  for each in version revision source; do told+="{{index .Config.Labels \"org.opencontainers.image.$each\"}} "; done
  told=$(docker image inspect "millstream-$1" --format "$told"); echo "$told"
  [ "$told" = "$IMAGE_VERSION $IMAGE_REVISION $IMAGE_SOURCE " ]
}
for service in gateway background worker; do check "$service says what it was built from" labelled $service; done
say "sizes: $(docker images --format '{{.Repository}} {{.Size}}' | grep millstream | tr '\n' ' ')"
stop_daemon
run_daemon || die "dockerd does not start in a namespace: see dockerd.log"

# --- checks -----------------------------------------------------------------------------------------------------------
process() { # process CONTAINER PATTERN: the pid of its main process
  docker top "$1" -eo pid,args | awk -v what="$2" '$0 ~ what && !/docker-init/ && !/entrypoint/ {print $1; exit}'
}
ask() { inside "$PYTHON" "$HERE/ask.py" "$PORT" 3; }
reference() { ask > reference.txt; cat reference.txt; ! grep -qv whole reference.txt; }
streams_while() { # streams_while COMMAND...: three streams, COMMAND five seconds in; each whole and as in reference.txt
  ask > told.txt & local pid=$!
  sleep 5; "$@" > /dev/null 2>&1; wait $pid; cat told.txt
  ! grep -qv whole told.txt && [ "$(cut -d' ' -f1-3 told.txt)" = "$(cut -d' ' -f1-3 reference.txt)" ]
}
sdk_while() {
  inside "$PYTHON" "$HERE/sdk.py" "$PORT" & local pid=$!
  sleep 5; "$@" > /dev/null 2>&1; wait $pid
}
healthy_again() { # healthy_again CONTAINER
  local told='{{.State.Health.Status}} {{.State.Status}}'
  for _ in $(seq 90); do [ "$(docker inspect "$1" --format "$told")" = "healthy running" ] && return; sleep 1; done
  return 1
}
unhealthy_soon() { # unhealthy_soon CONTAINER
  for _ in $(seq 90); do
    [ "$(docker inspect "$1" --format '{{.State.Health.Status}}')" = unhealthy ] && return; sleep 1
  done
  return 1
}
exec_in() { dc exec -T "$@"; }
status_of() { # status_of STATUS KEY
  local url=http://127.0.0.1:$PORT/v1/models
  [ "$(inside curl -s -o /dev/null -w '%{http_code}' -m 20 -H "Authorization: Bearer $2" $url)" = "$1" ]
}
loads() {
  ask > /dev/null & local pid=$!
  sleep 5; exec_in redis redis-cli ZRANGE 'ms:{lab}:load' 0 -1 WITHSCORES > loads.txt; wait $pid
  cat loads.txt; [ "$(grep -c '^1$' loads.txt)" = 3 ]
}
kill_worker() { kill -9 "$(process source-worker-1 bin/millstream)"; }
kill_redis() { kill -9 "$(process source-redis-1 redis-server)"; }
bounded() { # no root, no capability, no new privileges, a file system that may only be read
  exec_in "$1" sh -c '[ $(id -u) = 10001 ] && grep -q "CapBnd:.0000000000000000" /proc/self/status &&
    grep -q "NoNewPrivs:.1" /proc/self/status && ! touch /opt/millstream/x 2> /dev/null && touch /tmp/x'
}

as_anybody() { # a user whom no file of users knows, as Kubernetes' platforms choose one
  docker run --rm --user 54321:0 --network none --entrypoint sh "millstream-$1" -c \
    'for folder in ~/files ~/.cache; do [ ! -e $folder ] || touch $folder/x || exit 1; done; millstream --version'
}

cp source/.env.example source/.env
check "up --wait with .env.example, three workers" sim up -d --wait --scale worker=3
for service in gateway background worker; do check "$service has no rights to spare" bounded $service; done
check "the gateway's image has no torch, but what s3:// needs" exec_in gateway \
  python -c 'import s3fs, importlib.util as u, sys; sys.exit(u.find_spec("torch") is not None)'
for service in gateway background worker; do check "$service runs as any user of group 0" as_anybody $service; done
check "a reference run" reference
check "three streams lie on three workers" loads
check "kill -9 of a worker's process: every stream whole and unchanged" streams_while kill_worker
check "its container is back and healthy" healthy_again source-worker-1
check "docker compose restart redis: every stream whole and unchanged" streams_while dc restart redis
check "kill -9 of redis: every stream whole and unchanged" streams_while kill_redis
check "redis is healthy again" healthy_again source-redis-1
check "OpenAI's SDK streams" sdk_while true
check "OpenAI's SDK, a worker killed in the middle" sdk_while kill_worker
check "OpenAI's SDK, redis restarted in the middle" sdk_while dc restart redis
check "redis is healthy again" healthy_again source-redis-1
check "docker stop of a worker: within its grace, every stream whole and unchanged" streams_while docker stop source-worker-2
check "it left with status 0" [ "$(docker inspect source-worker-2 --format '{{.State.ExitCode}}')" = 0 ]
check "a batch through the shared volume" inside "$PYTHON" "$HERE/batch.py" "$PORT"
check "doctor in the gateway finds nothing bad" bash -c 'cd source && ! docker compose exec -T gateway millstream doctor | grep "^bad"'
check "redis stopped" dc stop redis
for service in gateway background; do check "$service turns red" unhealthy_soon source-$service-1; done
check "redis started" dc start redis
for service in gateway background; do check "$service turns green" healthy_again source-$service-1; done
check "down" sim down
check "up again" sim up -d --wait
check "files are still there" bash -c "nsenter --net=/proc/\$(cat dockerd.pid)/ns/net \
  curl -s http://127.0.0.1:$PORT/v1/files | grep -q batch_output"
printf '%s\n' MILLSTREAM_API_KEYS=team-a:one,team-b:two MILLSTREAM_INSECURE_NO_AUTH=false MILLSTREAM_PORT=8123 \
  MILLSTREAM_SLOTS=3 MILLSTREAM_ALIASES=gpt=lab > source/.env
PORT=8123
check "up with keys, another port, settings the file does not name" sim up -d --wait
check "no key: 401" status_of 401 none
check "a key: 200" status_of 200 one
check "the settings arrived" bash -c 'cd source && docker compose exec -T worker env | grep -qx MILLSTREAM_SLOTS=3 &&
  docker compose exec -T gateway env | grep -qx MILLSTREAM_ALIASES=gpt=lab'
PORT=8000; rm -f source/.env
sim down -v > /dev/null 2>&1
if [ -n "${REAL:-}" ]; then
  printf 'services: {worker: {pull_policy: never}, gateway: {pull_policy: never}, background: {pull_policy: never}}\n' > real.yml
  check "the sample model: up --wait, no hub, empty volumes, three workers" \
    dc -f docker-compose.yml -f ../real.yml up -d --wait --scale worker=3
  question='{"model": "smollm2-135m-instruct", "temperature": 0, "max_tokens": 20, "messages": [
    {"role": "user", "content": "What is the capital of France?"}]}'
  check "it answers" bash -c "nsenter --net=/proc/\$(cat dockerd.pid)/ns/net curl -s -m 200 \
    http://127.0.0.1:$PORT/v1/chat/completions -H 'Content-Type: application/json' -d '$question' | grep Paris"
  dc down -v > /dev/null 2>&1
fi
if [ -n "${KEEP:-}" ]; then
  say "the daemon runs: DOCKER_HOST=$DOCKER_HOST DOCKER_CONFIG=$DOCKER_CONFIG; its tools are in $T"
  say "its network: nsenter --net=/proc/$(cat dockerd.pid)/ns/net"
fi
say "done; everything lies in $LAB"
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
