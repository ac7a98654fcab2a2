#!/usr/bin/env bash
# Runs the tests of another processor under qemu-user: `make neon` and `make riscv`.
#
# The Rust tests run on both. On aarch64, Python's golden and contract tests run as well, in the Python of this
# Debian release for that processor. Targets that are 32-bit or big-endian must be refused by the compiler.
# Python is kept in target/emulated.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=$1 python=${2:-python3}
case $arch in
    aarch64) target=aarch64-unknown-linux-gnu debian=arm64 ;;
    riscv64) target=riscv64gc-unknown-linux-gnu debian=riscv64 ;;
    *) echo "usage: $0 aarch64|riscv64 [PYTHON]" >&2; exit 2 ;;
esac
folder=$PWD/target/emulated
root=$folder/$arch
packages="qemu-user mmdebstrap gcc-$arch-linux-gnu libc6-dev-$debian-cross"

missing() {
    echo "$1; on Debian 13: apt-get install $packages" >&2
    exit 1
}
for program in "qemu-$arch" "$arch-linux-gnu-gcc" mmdebstrap; do
    command -v "$program" > /dev/null || missing "$program is missing"
done
version=$("qemu-$arch" --version | sed -n 's/.* version \([0-9]*\).*/\1/p')
[ "$version" -ge 8 ] || missing "qemu-user $version hangs when a thread begins, 10 does not"

rustup target add "$target"
upper=$(echo "$target" | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${upper}_LINKER=$arch-linux-gnu-gcc"
export "CARGO_TARGET_${upper}_RUNNER=qemu-$arch -L /usr/$arch-linux-gnu"
# Optimized fully, the kernels take half an hour to compile for a processor that is emulated anyway.
cargo test --locked --target "$target" --config profile.dev.opt-level=1 --lib

for refused in i686 s390x; do
    rustup target add "$refused-unknown-linux-gnu"
    if errors=$(cargo check --locked --target "$refused-unknown-linux-gnu" --lib 2>&1) ||
        ! grep -q "error: fastinit needs a 64-bit little-endian target" <<< "$errors"; then
        echo "$refused is not refused: $errors" >&2
        exit 1
    fi
done

if [ "$arch" = aarch64 ]; then
    mkdir -p "$folder"
    if [ ! -e "$root/complete" ]; then
        rm -rf "$root"
        # The packages are unpacked only; none of their programs runs.
        mmdebstrap --quiet --variant=extract --architectures="$debian" --include=python3,libstdc++6,zlib1g \
            "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root"
        touch "$root/complete"
    fi
    PYO3_BUILD_EXTENSION_MODULE=1 PYO3_CROSS_PYTHON_VERSION=3.10 cargo rustc --locked --target "$target" \
        --config profile.dev.opt-level=1 --features python --lib --crate-type cdylib
    interpreter=$(echo "$root"/usr/bin/python3.*[0-9])
    site=$folder/site
    if [ ! -e "$site/complete" ]; then
        rm -rf "$site"
        "$python" -m pip install --quiet --target "$site" --only-binary=:all: \
            --python-version "${interpreter##*/python}" --platform manylinux_2_28_aarch64 \
            --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
            numpy ml_dtypes pytest pytest-timeout
        touch "$site/complete"
    fi
    rm -rf "$site/fastinit"
    mkdir "$site/fastinit"
    (cd python/fastinit && tar c --exclude=__pycache__ --exclude='_core*.so' .) | tar x -C "$site/fastinit"
    cp "target/$target/debug/libfastinit.so" "$site/fastinit/_core.abi3.so"
    PYTHONPATH=$site "qemu-$arch" -L "$root" "$interpreter" -m pytest -q -p no:cacheprovider --timeout=1200 \
        tests/python/test_golden.py tests/python/test_contract.py
fi
