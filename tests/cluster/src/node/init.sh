#!/bin/sh
# First process of a node, in namespaces of its own (net, mount, pid, uts, ipc, cgroup): builds the view that kubelet
# and containerd expect, starts them, and reaps what they leave. When it is killed, the kernel ends the whole node.
# Arguments: name of the node, its folder, folder of the programs, then the control groups to mount:
# `v2` and the controllers for its pods, or one `<options>=<name of the mount>` for each hierarchy of version 1.
set -eu
node=$1 dir=$2 bin=$3
shift 3

# Who reads the log finds the step that failed below the message of the program that failed.
step="begin"
trap 'echo "the node ends: it failed to $step" >&2' EXIT

step="set its host name"
hostname "$node"
step="make its mounts its own"
mount --make-rprivate /

# /run, /var/lib and /var/log get folders of the node's own. What is needed from the host goes to short paths first.
step="mount folders of its own over /run, /var/lib and /var/log"
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/node /run/bin /run/netns /run/lock
mount --bind "$dir" /run/node
mount --bind "$bin" /run/bin
mount -t tmpfs -o mode=755 var-lib /var/lib
mkdir -p /var/lib/kubelet /run/node/kubelet
mount --bind /run/node/kubelet /var/lib/kubelet
mount -t tmpfs -o mode=755 var-log /var/log
mkdir -p /var/log/pods /run/node/pods
mount --bind /run/node/pods /var/log/pods

step="mount /sys"
mount -t sysfs sysfs /sys
if [ "$1" = v2 ]; then
    step="mount the control groups"
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # All at once, see src/cgroups/unified.rs. No process is in the root: this one is in the group `init`.
    step="give the controllers $2 to the control groups of pods"
    echo "$2" > /sys/fs/cgroup/cgroup.subtree_control
else
    mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    for hierarchy in "$@"; do
        path=/sys/fs/cgroup/${hierarchy##*=}
        step="mount the control groups ${hierarchy%=*}"
        mkdir -p "$path"
        mount -t cgroup -o "${hierarchy%=*}" cgroup "$path"
    done
fi

# kubelet sets these for the whole machine: it gets files of its own to set.
step="hide the settings of the machine that kubelet changes"
for setting in vm/overcommit_memory:1 kernel/panic:10 kernel/panic_on_oops:1; do
    path=/proc/sys/${setting%:*}
    file=/run/sysctl/${setting%:*}
    mkdir -p "${file%/*}"
    echo "${setting#*:}" > "$file"
    mount --bind "$file" "$path"
done
# Volumes that kubelet mounts must show in containers.
mount --make-rshared /

step="start containerd (see containerd.log of the node)"
containerd --config /run/node/containerd.toml >> /run/node/log/containerd.log 2>&1 &
containerd=$!
until ctr version > /dev/null 2>&1; do
    if ! kill -0 "$containerd" 2> /dev/null; then
        tail -n 5 /run/node/log/containerd.log >&2
        exit 1
    fi
    sleep 0.05
done
step="import the sandbox image"
ctr --namespace k8s.io images import /run/node/pause.tar > /dev/null
step="start kubelet and kube-proxy"
/run/bin/kubelet --config=/run/node/kubelet.json --kubeconfig=/run/node/kubelet.kubeconfig \
    --hostname-override="$node" --node-ip="$(cat /run/node/address)" >> /run/node/log/kubelet.log 2>&1 &
/run/bin/kube-proxy --config=/run/node/kube-proxy.json >> /run/node/log/kube-proxy.log 2>&1 &
# A service that ends stays ended, as on a node without a supervisor; the node goes on.
step="wait"
while wait; do sleep 3600; done
