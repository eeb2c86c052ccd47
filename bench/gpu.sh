#!/usr/bin/env bash
# The vLLM engine on a GPU in one command, under nine minutes: first whether it is right, then how fast it is.
#
#   PYTHON=/path/to/env/bin/python bench/gpu.sh                  # random weights in the shape of Llama 3.1 8B: 16 GB
#   PYTHON=.engines/vllm/bin/python bench/gpu.sh                 # without a GPU: the sample model; does the script work?
#
# The environment: pip install 'millstream[gateway,embedded,vllm]' pytest pytest-asyncio pytest-timeout pytest-rerunfailures
# hypothesis jsonschema. FOLDER keeps the model, LOGS what the parts printed. Correctness runs in float32 on a tiny model with
# random weights against transformers' own `generate`; speed in the model's own type: engine alone, `vllm serve`, whole path.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} SHAPE=${SHAPE:-8b} PARTS=${PARTS:-tests,bench} LOGS=${LOGS:-/tmp/millstream-gpu-vllm}
MODEL=${FOLDER:-/tmp}/random-$SHAPE
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
DEVICE=$("$PYTHON" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')
if [ "$DEVICE" = cuda ]; then
    LEVELS=${LEVELS:-1,32,128} TOKENS=${TOKENS:-128} ROUNDS=${ROUNDS:-2} DTYPE=auto EXTRA=()
else
    LEVELS=${LEVELS:-1,4} TOKENS=${TOKENS:-8} ROUNDS=${ROUNDS:-1} DTYPE=float32 EXTRA=(--engine-args enforce-eager) MODEL=smollm2
    export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind
fi
mkdir -p "$LOGS"
began=$SECONDS
said() { echo "[$((SECONDS - began)) s] $*"; }
NAMES='import torch, vllm; print("vllm", vllm.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")'
said "$("$PYTHON" -c "$NAMES" 2> /dev/null)"

if [[ $PARTS == *tests* ]]; then
    exact=tests/worker/engines/exactness
    timeout 240 "$PYTHON" -m pytest -q -W default -p no:cacheprovider --engine vllm --device "$DEVICE" --timeout 200 \
        -m 'vllm or not vllm' $exact/test_exact_arithmetic.py $exact/test_seeds.py tests/worker/engines/test_guides.py \
        tests/worker/engines/test_life.py tests/worker/engines/vllm/test_second_runner.py > "$LOGS/tests" 2>&1
    grep -E "^(FAILED|ERROR)" "$LOGS/tests" | cut -c1-300
    said "correctness: $(tail -n 1 "$LOGS/tests")"
fi

if [[ $PARTS == *bench* ]]; then
    if [ "$DEVICE" = cuda ] && [ ! -e "$MODEL/config.json" ]; then
        "$PYTHON" -m millstream.bench.lab.random_model --shape "$SHAPE" --device "$DEVICE" "$MODEL" > "$LOGS/model" 2>&1 || exit 1
        said "made $MODEL"
    fi
    timeout 420 "$PYTHON" -m millstream.bench.vllm_cost --model "$MODEL" --dtype "$DTYPE" "${EXTRA[@]}" --levels "$LEVELS" \
        --tokens "$TOKENS" --rounds "$ROUNDS" 2> "$LOGS/errors" | tee "$LOGS/bench" | grep -v '"event"\|(MainProcess'
    said "done"
fi
