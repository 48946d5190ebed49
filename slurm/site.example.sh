# Settings of a site: copy to slurm/site.sh, which the batch scripts source on the first node if it
# is there; srun hands the environment on to all.
# shellcheck shell=bash

# module load cuda/12.8

# The network that NCCL (GPUs) and Gloo (CPUs) use for their first contact: `ip -br address`.
# export NCCL_SOCKET_IFNAME=ib0
# export GLOO_SOCKET_IFNAME=ib0

# InfiniBand adapters, where a node has some that lead elsewhere: `ibstat -l`.
# export NCCL_IB_HCA=mlx5_0,mlx5_1

# What NCCL chose, once, when a job hangs at its start.
# export NCCL_DEBUG=INFO

# Node-local disk for libraries' caches, where home is slow or its quota is small.
# export TRITON_CACHE_DIR=$TMPDIR/triton TORCH_EXTENSIONS_DIR=$TMPDIR/torch_extensions
# export WANDB_CACHE_DIR=$TMPDIR/wandb

# export OMP_NUM_THREADS=4
