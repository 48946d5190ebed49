# Settings of a site. Copy this file to slurm/site.sh: the batch scripts source it on the first node, and
# srun passes the environment on to all nodes.
# shellcheck shell=bash

# module load cuda/12.8

# The network interface for the first contact of NCCL (GPUs) and Gloo (CPUs); list them: `ip -br address`.
# export NCCL_SOCKET_IFNAME=ib0
# export GLOO_SOCKET_IFNAME=ib0

# The InfiniBand adapters, if a node also has some for other networks; list them: `ibstat -l`.
# export NCCL_IB_HCA=mlx5_0,mlx5_1

# If a job hangs when it starts: let NCCL log what it has chosen.
# export NCCL_DEBUG=INFO

# Put the libraries' caches on a node-local disk if your home folder is slow or has a small quota.
# export TRITON_CACHE_DIR=$TMPDIR/triton TORCH_EXTENSIONS_DIR=$TMPDIR/torch_extensions
# export WANDB_CACHE_DIR=$TMPDIR/wandb

# Show all nodes' GPUs in W&B, where each node runs NVIDIA's DCGM exporter (docs/wandb.md).
# nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed 's|.*|"&": "http://&:9400/metrics"|')
# export WANDB_X_STATS_OPEN_METRICS_ENDPOINTS="{${nodes//$'\n'/,}}"
# export WANDB_X_STATS_OPEN_METRICS_FILTERS='["DCGM_FI_DEV_(GPU_UTIL|FB_USED|POWER_USAGE|GPU_TEMP)"]'

# export OMP_NUM_THREADS=4
