# A manifest of one's own, made from make_cluster_spec() as the documentation shows.
resources = {"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"memory": "400Mi"}}
spec = make_cluster_spec(
    name=name,
    image=image,
    n_workers=1,
    resources=resources,
    env={"GREETING": "hello world"},
    worker_command="dask-worker --nthreads 1 --no-nanny --memory-limit 0 --resources GPU=2",
)
spec["spec"]["worker"]["spec"]["containers"][0]["env"].append({"name": "OWN", "value": "a=b"})
spec["spec"]["worker"]["spec"]["volumes"] = [{"name": "scratch", "emptyDir": {}}]
mounts = [{"name": "scratch", "mountPath": "/scratch"}]
spec["spec"]["worker"]["spec"]["containers"][0]["volumeMounts"] = mounts

with KubeCluster(custom_cluster_spec=spec, **access()) as cluster, Client(cluster) as client:
    workers(client, 1)

    def look():
        variables = ("GREETING", "OWN", "DASK_WORKER_NAME")
        return {variable: os.environ.get(variable) for variable in variables}, os.path.isdir("/scratch")

    (seen, mounted) = client.submit(look, resources={"GPU": 1}).result(PATIENCE)
    scheduler = client.run_on_scheduler(lambda: os.environ.get("GREETING"))
    report(seen=seen, mounted=mounted, scheduler=scheduler, name=cluster.name)
