#!/usr/bin/env bash
# Builds the image where no container engine runs, as root: a base made with debootstrap, the
# Dockerfile built on it by buildah without namespaces, and the quickstart run inside.
#   docker/build.sh [--steps N]
# Packages needed: buildah, debootstrap. Takes some minutes and about 25 GB under STORAGE
# (default: a folder in /var/tmp, removed at the end). This machine's settings for pip and apt are
# used for the build and do not stay in the image; certificates of its own do.
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

# This machine's own ways to packages, mounted for the build alone.
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
