#!/bin/sh
# What `make test-vm` does inside a virtual machine: a local Kubernetes with two nodes, the operator, a Dask cluster
# that computes and scales down, and then a look at what is left. Its last line is `vm: PASS` or `vm: FAIL <step>`;
# the machine turns itself off. Everything comes from /payload, the second disk; there is no network.
set -eu

# How many times longer than elsewhere everything may take here.
patience=$(sed -n 's/.*testbed\.patience=\([0-9]*\).*/\1/p' /proc/cmdline)
export DASK_TESTBED_DIR=/srv/testbed DASK_TESTBED_PATIENCE="$patience" KUBECONFIG=/srv/testbed/clusters/vm/kubeconfig
export PATH="/payload/commands:$PATH" HOME=/root
work=/tmp/testbed-vm
step="begin"

say() { echo "vm: $*"; }
begin() { step=$*; say "$(cut -d . -f 1 /proc/uptime) s: $step"; }

finish() {
    code=$?
    if [ "$code" = 0 ]; then
        say "PASS"
    else
        show_state 2>&1 | head -c 60000
        say "FAIL $step"
    fi
    sync
    systemctl poweroff --force --force
}
trap finish EXIT

# For the log of a failure.
show_state() {
    set +e
    kubectl get nodes,pods,daskclusters --all-namespaces --output wide --request-timeout=20s
    kubectl get events --all-namespaces --sort-by=.lastTimestamp --request-timeout=20s | tail -n 40
    for log in /srv/testbed/clusters/*/log/*.log /srv/testbed/clusters/*/nodes/*/log/*.log; do
        echo "--- $log"
        tail -n 15 "$log" | cut -c 1-400
    done
    for file in cgroup.controllers cgroup.subtree_control cgroup.procs; do
        echo "--- $file"
        head -n 30 "/sys/fs/cgroup/$file"
    done
    free -m
}

# Everything that a cluster can leave behind. Settings that count something change by themselves.
look() {
    {
        ps -N --ppid 2 -p 2 -o comm= | grep -vxE 'ps|grep|sed|sort|sh|sleep|\(.*\)|systemd-.*' | sed 's/^/process /'
        sed 's/^/mount /' /proc/mounts
        find /sys/class/net -type l | sed 's/^/link /'
        ip -o route show table all | sed 's/^/route /'
        find /run/netns -mindepth 1 2> /dev/null | sed 's/^/namespace /'
        nft list ruleset | sed 's/counter packets [0-9]* bytes [0-9]*/counter/; s/^/rule /'
        find /sys/fs/cgroup -maxdepth 1 -type d | sed 's/^/group /'
        find /sys/fs/cgroup -type d \( -name 'tb*' -o -name 'kube*' -o -name 'dask-*' \) | sed 's/^/group /'
        find /var/lib /var/log /etc /opt /run -maxdepth 1 | sed 's/^/folder /'
    } | sort
}
settings() {
    counters='fs\.(dentry-state|file-nr|inode-nr|inode-state|quota\..*)|kernel\.(random\.|ns_last_pid|pty\.nr)'
    sysctl --all 2> /dev/null | sort | grep -vE "^($counters|net\.netfilter\.nf_conntrack_count)"
}

until_true() { # until_true SECONDS COMMAND...
    limit=$(($(cut -d . -f 1 /proc/uptime) + $1 * patience))
    shift
    until "$@"; do
        [ "$(cut -d . -f 1 /proc/uptime)" -lt "$limit" ] || return 1
        sleep 1
    done
}

# What a machine has beside the cluster: a containerd of its own and swap, or Docker and a firewall that drops.
neighbours() {
    if [ -x /usr/sbin/dockerd ]; then
        until_true 20 systemctl --quiet is-active docker
        nft add table inet closed
        nft add chain inet closed input '{ type filter hook input priority 0; policy drop; }'
        nft add rule inet closed input iif lo accept
        nft add rule inet closed input ct state established,related accept
    else
        until_true 20 systemctl --quiet is-active containerd
        fallocate -l 256M /swap
        chmod 600 /swap
        mkswap /swap > /dev/null
        swapon /swap
    fi
}

mkdir -p $work /srv/testbed
ln -s /payload/bin /payload/images /srv/testbed/
# shellcheck disable=SC1091 # the guest's own
say "$(. /etc/os-release && echo "$PRETTY_NAME"), Linux $(uname -r), $(systemctl --version | head -n 1)"
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || { step="find control groups of version 2"; exit 1; }

begin "neighbours"
neighbours
# Mounted at the first look into it, which `sysctl --all` has.
ls /proc/sys/fs/binfmt_misc > /dev/null 2>&1 || true
look > $work/before
settings > $work/settings-before

begin "up: two nodes"
dask-testbed up --name vm --nodes 2

begin "load images"
dask-testbed load --name vm /payload/images/operator-*.tar
dask-testbed load --name vm /payload/images/dask-*.tar

begin "operator"
kubectl create namespace dask-operator
# The definitions are large: an emulated API server may need longer than the minute that a request has.
until_true 20 kubectl apply --namespace dask-operator --server-side --filename /payload/operator.yaml
# A definition without any condition yet is an error to `kubectl wait`.
until_true 20 kubectl wait --for=condition=Established --timeout=$((10 * patience))s --all customresourcedefinitions
kubectl --namespace dask-operator rollout status deployment/dask-operator --timeout=$((40 * patience))s

begin "DaskCluster: Ready with two workers"
kubectl apply --filename /payload/cluster.yaml
kubectl wait daskcluster/vm --for=condition=Ready --timeout=$((70 * patience))s
ready() { [ "$(kubectl get daskcluster vm --output 'jsonpath={.status.readyReplicas}')" = "$1" ]; }
until_true 30 ready 2

begin "limits in the control groups"
limits=$(find /sys/fs/cgroup -path '*/tb*' -name memory.max -exec grep -lx $((777 * 1024 * 1024)) {} + | wc -l)
[ "$limits" -ge 2 ]
limits=$(find /sys/fs/cgroup -path '*/tb*' -name cpu.max -exec grep -lx '75000 100000' {} + | wc -l)
[ "$limits" -ge 2 ]

begin "computation"
sum=$(kubectl exec deployment/vm-scheduler -- python -c '
from distributed import Client
with Client("tcp://vm-scheduler:8786", timeout=600) as client:
    print(client.submit(sum, client.map(lambda x: x * x, range(100))).result())')
say "sum of squares: $sum"
[ "$sum" = 328350 ]

begin "scale down to one worker"
kubectl scale daskcluster/vm --replicas=1
one_left() { [ "$(kubectl get pods --selector dask.org/component=worker --output name | wc -l)" = 1 ] && ready 1; }
until_true 30 one_left

begin "node kill and restart"
dask-testbed node kill node2 --name vm
dask-testbed node restart node2 --name vm

begin "down"
dask-testbed down --name vm

begin "nothing is left"
look > $work/after
settings > $work/settings-after
diff $work/before $work/after
# New links and modules bring settings; none that was there may have changed.
comm -23 $work/settings-before $work/settings-after > $work/settings-changed
cat $work/settings-changed
[ ! -s $work/settings-changed ]
[ ! -e /srv/testbed/clusters/vm ]

begin "one node in a container"
cat > /srv/inside.sh << 'EOF'
set -eu
grep -q . /sys/fs/cgroup/cgroup.procs
dask-testbed up --name inside --nodes 1
dask-testbed down --name inside
# The control group is as it was: nothing in it but its processes.
[ -z "$(cat /sys/fs/cgroup/cgroup.subtree_control)" ]
[ -z "$(find /sys/fs/cgroup -mindepth 1 -type d)" ]
EOF
if [ -x /usr/sbin/dockerd ]; then
    # An image with nothing, and everything from the machine.
    tar --create --files-from /dev/null | docker import - nothing > /dev/null
    docker run --rm --privileged --cgroupns private --tmpfs /run --tmpfs /tmp --tmpfs /var/log \
        --volume /usr:/usr --volume /usr/bin:/bin --volume /usr/sbin:/sbin \
        --volume /usr/lib:/lib --volume /usr/lib64:/lib64 \
        --volume /etc:/etc:ro --volume /payload:/payload --volume /srv:/srv --volume /var/tmp:/var/lib \
        --env PATH --env DASK_TESTBED_DIR --env DASK_TESTBED_PATIENCE nothing sh /srv/inside.sh
else
    # What a privileged container is for control groups: a view of its own, with processes in its root.
    systemd-run --scope --quiet --property Delegate=yes unshare --cgroup --mount \
        sh -c 'umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && . /srv/inside.sh'
fi
