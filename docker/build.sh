#!/usr/bin/env bash
# Builds the image without a container engine, as root, and runs the quickstart in it. debootstrap makes
# the base image; buildah builds the Dockerfile on it without namespaces.
#   docker/build.sh [--steps N]
# It needs the packages buildah and debootstrap, some minutes, and about 25 GB under STORAGE (default: a
# folder in /var/tmp, which is removed at the end). The build uses this machine's settings for pip and
# apt, which do not remain in the image; this machine's certificates do.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=200
[ "${1:-}" != --steps ] || steps=${2:?--steps needs a number}
if ! command -v buildah >/dev/null || ! command -v debootstrap >/dev/null; then
    echo "build.sh: buildah and debootstrap are needed: apt-get install buildah debootstrap" >&2
    exit 1
fi
work=${STORAGE:-$(mktemp -d /var/tmp/ganscale-image.XXXXXX)}
[ -n "${STORAGE:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tmp"
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs TMPDIR=$work/tmp
buildah() { command buildah --root "$work/root" --runroot "$work/run" "$@"; }

if ! buildah inspect --type image debian-base >/dev/null 2>&1; then
    [ -d "$work/debian/etc" ] || debootstrap --variant=minbase bookworm "$work/debian"
    base=$(buildah from scratch)
    buildah copy --quiet "$base" "$work/debian" / >/dev/null
    buildah commit --quiet "$base" debian-base >/dev/null
    buildah rm "$base" >/dev/null
fi

# Mount this machine's package settings during the build only.
mounts=()
for path in /etc/pip.conf /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /usr/local/share/ca-certificates; do
    [ ! -e "$path" ] || mounts+=(--volume "$path:$path:ro")
done
for name in http_proxy https_proxy no_proxy; do
    [ -z "${!name:-}" ] || mounts+=(--build-arg "$name=${!name}")
done
buildah build --format docker --build-arg BASE=localhost/debian-base "${mounts[@]}" \
    --file docker/Dockerfile --tag ganscale .

container=$(buildah from ganscale)
buildah run "$container" -- ganscale doctor
buildah run "$container" -- sh -c "id -un && launch/quickstart.sh --steps $steps"
buildah rm "$container" >/dev/null
