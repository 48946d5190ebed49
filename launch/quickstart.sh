#!/usr/bin/env bash
# Runs the whole path once: install, pack digits, train the textbook GAN, score it, draw its samples.
#   ./launch/quickstart.sh [--data-root DIR] [--steps N]
# DIR holds torchvision's MNIST/raw (or set GANSCALE_DATA). Without it, MNIST is downloaded; if that
# fails, scikit-learn's own handwritten digits are used.
set -euo pipefail

data_root=${GANSCALE_DATA:-}
steps=20000
while [ $# -gt 0 ]; do
    case $1 in
        --data-root) data_root=${2:?--data-root needs a folder}; shift 2 ;;
        --steps) steps=${2:?--steps needs a number}; shift 2 ;;
        -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit ;;
        *) echo "quickstart: unknown option '$1' (try --help)" >&2; exit 2 ;;
    esac
done
[ -z "$data_root" ] || data_root=$(cd "$data_root" && pwd)

# shellcheck source=launch/environment.sh
. "$(dirname "$0")/environment.sh"

# Keep the libraries' caches in the clone, too, unless the user has chosen other folders.
export WANDB_CACHE_DIR=${WANDB_CACHE_DIR:-$PWD/.venv/cache} WANDB_DATA_DIR=${WANDB_DATA_DIR:-$PWD/.venv/cache}
mkdir -p "$WANDB_CACHE_DIR" "$WANDB_DATA_DIR"

# -- data --
set_name=mnist
if [ -f data/mnist/manifest.json ]; then
    :
elif [ -n "$data_root" ]; then
    ganscale pack mnist data/mnist --data-root "$data_root"
elif [ -f data/digits/manifest.json ]; then
    set_name=digits
elif ! timeout 300 ganscale pack mnist data/mnist --download 2>/dev/null; then
    echo "quickstart: MNIST cannot be downloaded here; using scikit-learn's 1,797 digits"
    set_name=digits
    ganscale pack digits data/digits --size 28
fi

# -- training: a finished run is kept and a new one gets the next number; an unfinished one resumes --
number=1
while [ -f "runs/quickstart-$set_name-$number/report.html" ]; do number=$((number + 1)); done
run=runs/quickstart-$set_name-$number
kind=cpu
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then kind=gpu; fi
accelerate launch --config_file "launch/accelerate/$kind.yaml" -m ganscale \
    train configs/mnist_mlp.yaml "name=$(basename "$run")" "data.path=data/$set_name" \
    "train.steps=$steps" monitoring.log_every=1000 checkpoint.every=2000 evaluation.every=5000

# -- score and pictures --
ganscale evaluate "$run"
ganscale sample "$run" --grid "$run/grid.png" --interpolate "$run/interpolation.gif" >/dev/null
wandb_run=$(find "$run/wandb" -maxdepth 1 -name '*run-*' -type d 2>/dev/null | sort | tail -n 1)
cat <<END

Done. Results:
  sample grid     $run/grid.png
  loss curves     $run/report.html
  checkpoints     $run/checkpoints
  W&B run         ${wandb_run:-none}  (upload it: .venv/bin/wandb sync DIR)

Next steps (after: source .venv/bin/activate):
  a DCGAN         ganscale train configs/mnist_dcgan.yaml data.path=data/$set_name
  several GPUs    accelerate launch --config_file launch/accelerate/ddp.yaml -m ganscale train configs/mnist_dcgan.yaml data.path=data/$set_name name=dcgan_ddp
  a cluster       ganscale submit configs/mnist_dcgan.yaml data.path=data/$set_name --gpus-per-node 1
  two processes   accelerate launch --config_file launch/accelerate/cpu_ddp.yaml -m ganscale train configs/mnist_mlp.yaml data.path=data/$set_name
END
