#!/usr/bin/env bash
# The engine on a GPU in one command, a few minutes: first whether it is right, then how fast it is.
#
#   bench/lab/gpu.sh                                     # a model of random weights in the shape of Llama 3.1 8B: 16 GB
#   PYTHON=.venv/bin/python DEVICE=cpu SHAPE=tiny LEVELS=1,4 TOKENS=8 bench/lab/gpu.sh     # does the script itself work?
#
# FOLDER keeps the model (default /tmp), LOGS what the parts printed. The tests end with a line each; the table follows.
set -uo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} SHAPE=${SHAPE:-8b} LEVELS=${LEVELS:-1,32,128} TOKENS=${TOKENS:-128}
FOLDER=${FOLDER:-/tmp}/random-$SHAPE LOGS=${LOGS:-/tmp/millstream-gpu} PARTS=${PARTS:-tests,bench}
MODES=${MODES:-manager,engine,warm,sampled} REPEATS=${REPEATS:-2}
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
mkdir -p "$LOGS"

tests() { # NAME ARGUMENTS...
    local name=$1
    shift
    "$PYTHON" -m pytest -q -W default -p no:cacheprovider --device "$DEVICE" "$@" >"$LOGS/$name" 2>&1
    grep -E "^(FAILED|ERROR)" "$LOGS/$name" | cut -c1-300
    echo "$name: $(tail -n 1 "$LOGS/$name")"
}

if [[ $PARTS == *tests* ]]; then
    "$PYTHON" -c "import torch; print(torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU')"
    at=tests/worker/engines exact=tests/worker/engines/exactness
    tests arithmetic $exact/test_exact_arithmetic.py $exact/test_seeds.py $exact/test_sampler.py &
    tests life $at/test_life.py $at/test_guides.py $exact/test_gpu_attention.py &
    tests loading $at/loading/test_architectures.py $at/loading/test_loading.py &
    [[ $DEVICE == cpu ]] || tests graphs --graphs $exact/test_exact_arithmetic.py $exact/test_seeds.py $at/test_life.py &
    wait
fi

if [[ $PARTS == *bench* ]]; then
    [[ -e $FOLDER/config.json ]] || "$PYTHON" -m millstream.bench.lab.random_model --shape "$SHAPE" --device "$DEVICE" "$FOLDER" || exit 1
    "$PYTHON" -m millstream.bench.lab.engine --device "$DEVICE" --model "$FOLDER" --dtype bfloat16 --levels "$LEVELS" \
        --tokens "$TOKENS" --repeats "$REPEATS" --modes "$MODES" 2>&1 | grep -v -E "model shards|Loading weights" | tee "$LOGS/bench"
fi
