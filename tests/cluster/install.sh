#!/bin/sh
# Installs what building and testing this project needs on Debian or Ubuntu: system packages, Go and Rust.
# Does nothing for what is there already; a second run ends at once. Without root it installs Go and Rust only and
# says what is missing: the tests against the API server run all the same, those with nodes are skipped.
#
# `install.sh vm` installs what virtual machines need, too. FORCE=1 looks again at everything.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
toolchain=$root/target/toolchain
mkdir -p "$toolchain"

say() { printf '%s\n' "install: $*" >&2; }
fail() { say "error: $*"; exit 1; }
has() { PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" > /dev/null 2>&1; }

# --- Has this very script succeeded here before? ---------------------------------------------------------------
stamp=$toolchain/installed${1:+-$1}-$(sha256sum "$0" "$root/rust-toolchain.toml" | sha256sum | cut -c 1-16)-$(id -u)
if [ -e "$stamp" ] && [ "${FORCE:-}" != 1 ]; then
    exit 0
fi

# --- System packages -------------------------------------------------------------------------------------------
# Asked for by program, not by package: who has Docker's containerd keeps it.
packages=
want() { # want PACKAGE TEST...: the package is needed if the test fails
    package=$1
    shift
    "$@" > /dev/null 2>&1 || packages="$packages $package"
}
any_cni() { [ -e /usr/lib/cni/bridge ] || [ -e /opt/cni/bin/bridge ] || [ -e /usr/libexec/cni/bridge ]; }

# To build: C compiler and library for Rust and for the pause image.
want gcc has gcc
want libc6-dev test -e /usr/include/stdio.h
want make has make
want git has git
want curl has curl
want ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
# For the Dask image and the Python clients in the tests.
want python3 test -x /usr/bin/python3
want python3-venv /usr/bin/python3 -c 'import ensurepip'
# To fetch the release of Go that the tools need, if no Go is here.
want golang-go has go
# For nodes.
want containerd has containerd
want containernetworking-plugins any_cni
want conntrack has conntrack
want iproute2 has ip
want iptables has iptables
want kmod has modprobe
want nftables has nft
want procps has sysctl
want runc has runc
want util-linux has nsenter

# For `make test-vm`.
if [ "${1:-}" = vm ]; then
    want debian-archive-keyring test -e /usr/share/keyrings/debian-archive-keyring.gpg
    want debootstrap has debootstrap
    want e2fsprogs has mkfs.ext4
    want qemu-system-x86 has qemu-system-x86_64
fi

install_packages() {
    say "installing$packages (10 to 60 s)"
    export DEBIAN_FRONTEND=noninteractive
    # Nodes start a containerd of their own: the machine's shall not run because of us.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    apt-get install -qq --yes --no-install-recommends $packages > "$toolchain/apt.log" 2>&1 ||
        fail "apt-get install$packages: $(tail -n 5 "$toolchain/apt.log")"
    case " $packages " in
        *" containerd "*) if has systemctl; then systemctl --quiet disable containerd.service 2> /dev/null || true; fi ;;
    esac
}

complete=yes
if [ -z "$packages" ]; then
    say "all system packages are there"
elif [ "$(id -u)" != 0 ]; then
    complete=no
    say "not root, so these packages stay missing:$packages"
    say "nodes cannot run without them; run 'sudo $0' or 'apt-get install$packages'"
elif has apt-get; then
    install_packages
else
    complete=no
    say "no apt-get here: install what these Debian packages hold by other means:$packages"
fi
for program in gcc curl python3; do
    has "$program" || fail "$program is missing, and nothing can be built without it"
done

# --- Go --------------------------------------------------------------------------------------------------------
# The release comes as a module, which any Go can fetch and check against the public checksum database.
go_version=1.26.8

go_is_new_enough() { # go_is_new_enough PROGRAM: in the folder of our tools, where it may switch to a newer release
    version=$(cd "$root/tests/cluster/tools" && "$1" env GOVERSION 2> /dev/null) || return 1
    needed=$(sed -n 's/^go //p' "$root/tests/cluster/tools/go.mod")
    oldest=$(printf '%s\n%s\n' "${version#go}" "$needed" | sort -V | head -n 1)
    [ "$oldest" = "$needed" ]
}

install_go() {
    case $(uname -m) in
        x86_64) arch=amd64 ;;
        aarch64) arch=arm64 ;;
        *) fail "no Go for $(uname -m) here: install Go $go_version and run this again" ;;
    esac
    say "installing Go $go_version to target/toolchain/go (70 MB, 30 s)"
    has go || fail "go is missing: install the package golang-go, or Go $go_version, and run this again"
    module=golang.org/toolchain@v0.0.1-go$go_version.linux-$arch
    rm -rf "$toolchain/go" "$toolchain/modules"
    (cd "$toolchain" && GOMODCACHE="$toolchain/modules" GOTOOLCHAIN=local GO111MODULE=on GOFLAGS=-modcacherw \
        go mod download "$module")
    mv "$toolchain/modules/$module" "$toolchain/go"
    rm -rf "$toolchain/modules"
    # A module holds no permissions.
    chmod -R +x "$toolchain/go/bin" "$toolchain/go/pkg/tool"
}

if [ -x "$toolchain/go/bin/go" ] && go_is_new_enough "$toolchain/go/bin/go"; then
    say "Go is there: target/toolchain/go"
elif has go && go_is_new_enough go; then
    say "Go is there: $(command -v go)"
else
    install_go
    go_is_new_enough "$toolchain/go/bin/go" || fail "the Go that was installed does not run: $toolchain/go/bin/go version"
fi

# --- Rust ------------------------------------------------------------------------------------------------------
# rust-toolchain.toml chooses the release, which only rustup's cargo obeys.
rust_version=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
cargo_is_right() { (cd "$root" && "$1" --version 2> /dev/null) | grep -q "^cargo ${rust_version%.*}\."; }

if { has cargo && cargo_is_right cargo; } || { [ -x "$HOME/.cargo/bin/cargo" ] && cargo_is_right "$HOME/.cargo/bin/cargo"; }; then
    say "Rust $rust_version is there"
else
    say "installing Rust $rust_version by rustup to ~/.cargo (60 s)"
    if ! has rustup && [ ! -x "$HOME/.cargo/bin/rustup" ]; then
        curl --fail --silent --show-error --location --retry 3 --proto '=https' --tlsv1.2 https://sh.rustup.rs |
            sh -s -- -y --quiet --profile minimal --default-toolchain none --no-modify-path
    fi
    PATH="$HOME/.cargo/bin:$PATH" rustup toolchain install "$rust_version" --profile minimal --component clippy,rustfmt
    cargo_is_right "$HOME/.cargo/bin/cargo" || cargo_is_right cargo || fail "cargo $rust_version does not run"
    case ":$PATH:" in *":$HOME/.cargo/bin:"*) ;; *) say "for your own shell: export PATH=\"\$HOME/.cargo/bin:\$PATH\"" ;; esac
fi

if [ "$complete" = yes ]; then
    : > "$stamp"
fi
say "done"
