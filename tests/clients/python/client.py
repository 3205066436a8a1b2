"""The official client of Python: typed and dynamic objects, patches, watches, informers, logs, exec, port-forward,
manifests from YAML, leases. Ends with another code than 0 at the first difference. The pod `kit` has to run."""

import datetime
import tempfile
import threading
import time

from kubernetes import client, config, dynamic, informer, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig
from kubernetes.leaderelection import leaderelection as elections
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from kubernetes.stream import portforward, stream

NAMESPACE = "python"
PATIENCE = 60


def eventually(what, look):
    """Waits until `look` gives something that is true."""
    end, seen = time.monotonic() + PATIENCE, None
    while time.monotonic() < end:
        seen = look()
        if seen:
            return seen
        time.sleep(0.05)
    raise AssertionError(f"still not so: {what}; last seen: {seen!r}")


def fails(code, call, *words, **named):
    """The call is answered with this code; gives the answer."""
    try:
        call(*words, **named)
    except ApiException as error:
        assert error.status == code, f"{error.status} in place of {code}: {error.body}"
        return error
    raise AssertionError(f"{call} should have been answered with {code}")


def config_map(name, **data):
    return client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name=name, labels={"app": "python"}), data=data
    )


def objects(core):
    made = core.create_namespaced_config_map(NAMESPACE, config_map("one", level="info"))
    assert made.metadata.uid and made.metadata.creation_timestamp < datetime.datetime.now(
        datetime.timezone.utc
    ) + datetime.timedelta(minutes=1)
    exists = fails(409, core.create_namespaced_config_map, NAMESPACE, config_map("one"))
    assert '"reason":"AlreadyExists"' in exists.body, exists.body
    made.data["level"] = "debug"
    replaced = core.replace_namespaced_config_map("one", NAMESPACE, made)
    assert replaced.data == {"level": "debug"}
    stale = fails(409, core.replace_namespaced_config_map, "one", NAMESPACE, made)
    assert '"reason":"Conflict"' in stale.body, stale.body
    for number in range(5):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"page-{number}"))
    names, following = [], None
    while True:
        page = core.list_namespaced_config_map(
            NAMESPACE, label_selector="app=python", limit=2, _continue=following
        )
        assert len(page.items) <= 2
        names += [item.metadata.name for item in page.items]
        following = page.metadata._continue
        if not following:
            break
    assert names == ["one"] + [f"page-{number}" for number in range(5)], names
    fails(404, core.read_namespaced_config_map, "none", NAMESPACE)
    invalid = fails(422, core.create_namespaced_config_map, NAMESPACE, config_map("NOT VALID"))
    assert "metadata.name" in invalid.body, invalid.body
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="app=python")
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="app=python").items


def patches(core, apps):
    labels = {"app": "web"}
    apps.create_namespaced_deployment(
        NAMESPACE,
        {
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "a", "image": "a:v1"}]},
                },
            },
        },
    )

    def patch(body, content_type, **named):
        return apps.patch_namespaced_deployment(
            "web", NAMESPACE, body, _content_type=f"application/{content_type}", **named
        )

    def containers(found):
        return [(it.name, it.image) for it in found.spec.template.spec.containers]

    def pod(*containers):
        return {"spec": {"template": {"spec": {"containers": list(containers)}}}}

    added = patch(pod({"name": "b", "image": "b:v1"}), "strategic-merge-patch+json")
    assert sorted(containers(added)) == [("a", "a:v1"), ("b", "b:v1")], containers(added)
    replaced = patch(pod({"name": "a", "image": "a:v2"}), "merge-patch+json")
    assert containers(replaced) == [("a", "a:v2")], containers(replaced)
    path = "/spec/template/spec/containers/0/image"
    changed = patch([{"op": "test", "path": path, "value": "a:v2"}, {"op": "replace", "path": path, "value": "a:v3"}], "json-patch+json")
    assert containers(changed) == [("a", "a:v3")], containers(changed)
    try:
        patch([{"op": "test", "path": path, "value": "other"}], "json-patch+json")
        raise AssertionError("a test that fails should refuse the patch")
    except ApiException as error:
        assert error.status in (409, 422), error
    applied = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"applied": "yes"}},
    }
    done = patch(applied, "apply-patch+yaml", field_manager="python", force=True)
    assert done.metadata.labels == {"applied": "yes"}, done.metadata
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    assert not scale.spec.replicas and scale.status.selector == "app=web", scale
    apps.patch_namespaced_deployment_scale(
        "web", NAMESPACE, {"spec": {"replicas": 1}}, _content_type="application/merge-patch+json"
    )
    assert apps.read_namespaced_deployment("web", NAMESPACE).spec.replicas == 1
    apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Foreground")
    eventually(
        "all of it is gone",
        lambda: not apps.list_namespaced_deployment(NAMESPACE).items
        and not apps.list_namespaced_replica_set(NAMESPACE).items
        and not core.list_namespaced_pod(NAMESPACE).items,
    )


def watches(core):
    begin = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("watched", level="1"))
    core.patch_namespaced_config_map(
        "watched", NAMESPACE, {"data": {"level": "2"}}, _content_type="application/merge-patch+json"
    )
    core.delete_namespaced_config_map("watched", NAMESPACE)
    seen, it = [], watch.Watch()
    for event in it.stream(
        core.list_namespaced_config_map,
        NAMESPACE,
        field_selector="metadata.name=watched",
        resource_version=begin,
        timeout_seconds=PATIENCE,
    ):
        seen.append((event["type"], event["object"].data["level"]))
        if event["type"] == "DELETED":
            it.stop()
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")], seen
    # A time-out ends a watch by itself, without an error.
    quiet = watch.Watch().stream(
        core.list_namespaced_config_map, NAMESPACE, label_selector="none=here", timeout_seconds=1
    )
    assert not list(quiet)


def informers(core):
    heard = []
    it = informer.SharedInformer(
        core.list_namespaced_config_map, namespace=NAMESPACE, label_selector="app=python"
    )
    for kind in (informer.ADDED, informer.MODIFIED, informer.DELETED):
        it.add_event_handler(kind, lambda found, kind=kind: heard.append((kind, found.metadata.name)))
    core.create_namespaced_config_map(NAMESPACE, config_map("before"))
    it.start()
    eventually("it has what was there", lambda: it.cache.get_by_key(f"{NAMESPACE}/before"))
    core.create_namespaced_config_map(NAMESPACE, config_map("after"))
    eventually("it hears of another", lambda: ("ADDED", "after") in heard)
    core.delete_namespaced_config_map("before", NAMESPACE)
    eventually("it hears of an end", lambda: ("DELETED", "before") in heard)
    assert it.cache.list_keys() == [f"{NAMESPACE}/after"], it.cache.list_keys()
    it.stop()


DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: snakes.python.example.com}
spec:
  group: python.example.com
  scope: Namespaced
  names: {plural: snakes, kind: Snake}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: v1
kind: Secret
metadata: {name: from-yaml, namespace: python}
stringData: {key: value}
"""


def from_yaml(api, core):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(DEFINITION)
        file.flush()
        utils.create_from_yaml(api, file.name)
    assert core.read_namespaced_secret("from-yaml", NAMESPACE).data == {"key": "dmFsdWU="}
    definitions = client.ApiextensionsV1Api(api)

    def established():
        found = definitions.read_custom_resource_definition("snakes.python.example.com")
        conditions = found.status and found.status.conditions or []
        return any(it.type == "Established" and it.status == "True" for it in conditions)

    eventually("it is established", established)


def dynamics(api):
    cache = tempfile.NamedTemporaryFile(suffix=".json").name
    kube = dynamic.DynamicClient(api, cache_file=cache)
    snakes = kube.resources.get(api_version="python.example.com/v1", kind="Snake")
    made = snakes.create(body={"metadata": {"name": "one"}, "spec": {"length": 3}}, namespace=NAMESPACE)
    assert made.spec.length == 3 and made.metadata.generation == 1, made
    changed = snakes.patch(
        name="one",
        namespace=NAMESPACE,
        body={"spec": {"length": 4}, "status": {"seen": 1}},
        content_type="application/merge-patch+json",
    )
    assert changed.spec.length == 4 and changed.metadata.generation == 2 and not changed.status
    status = snakes.status.patch(
        name="one",
        namespace=NAMESPACE,
        body={"status": {"seen": 4}},
        content_type="application/merge-patch+json",
    )
    assert status.status.seen == 4 and status.metadata.generation == 2, status
    applied = snakes.server_side_apply(
        name="one",
        namespace=NAMESPACE,
        body={
            "apiVersion": "python.example.com/v1",
            "kind": "Snake",
            "metadata": {"name": "one"},
            "spec": {"colour": "green"},
        },
        field_manager="python",
    )
    assert applied.spec.colour == "green" and applied.spec.length == 4, applied
    listed = snakes.get(namespace=NAMESPACE)
    assert listed.kind == "SnakeList" and [it.metadata.name for it in listed.items] == ["one"]
    first = next(iter(snakes.watch(namespace=NAMESPACE, timeout=5)))
    assert first["type"] == "ADDED" and first["raw_object"]["spec"]["colour"] == "green", first
    snakes.delete(name="one", namespace=NAMESPACE)
    # All kinds of all groups are found, by their short names too.
    assert kube.resources.get(api_version="v1", kind="Pod").singular_name == "pod"
    assert kube.version["kubernetes"]["major"] == "1"
    custom = client.CustomObjectsApi(api)
    body = {"apiVersion": "python.example.com/v1", "kind": "Snake", "metadata": {"name": "two"}}
    custom.create_namespaced_custom_object("python.example.com", "v1", NAMESPACE, "snakes", body)
    found = custom.list_cluster_custom_object("python.example.com", "v1", "snakes")
    assert [it["metadata"]["name"] for it in found["items"]] == ["two"], found


def streams(core):
    assert core.read_namespaced_pod_log("kit", "default", tail_lines=1) == "wrote it is open\n"
    followed = watch.Watch().stream(core.read_namespaced_pod_log, "kit", "default", follow=True)
    assert next(followed) == "wrote it is open"
    words = {"stderr": True, "stdin": False, "stdout": True, "tty": False}
    connect = core.connect_get_namespaced_pod_exec
    said = stream(connect, "kit", "default", command=["kit", "say", "hello", "there"], **words)
    assert said == "hello there\n", said
    words["stdin"] = True
    shell = stream(connect, "kit", "default", command=["kit", "pass"], _preload_content=False, **words)
    shell.write_stdin("through\n")
    assert shell.readline_stdout(timeout=PATIENCE) == "through"
    shell.close()
    words["stdin"] = False
    ended = stream(connect, "kit", "default", command=["kit", "exit", "7"], _preload_content=False, **words)
    ended.run_forever(timeout=PATIENCE)
    assert ended.returncode == 7, ended.returncode
    forward = portforward(core.connect_get_namespaced_pod_portforward, "echo", "default", ports="7000")
    socket = forward.socket(7000)
    socket.settimeout(PATIENCE)
    socket.sendall(b"back and forth")
    heard = b""
    while len(heard) < len(b"back and forth"):
        heard += socket.recv(64)
    assert heard == b"back and forth" and forward.error(7000) is None, heard
    forward.close()


def access(api):
    reviews = client.AuthorizationV1Api(api)
    may = reviews.create_self_subject_access_review(
        {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": NAMESPACE}}}
    )
    assert may.status.allowed, may
    core = client.CoreV1Api(api)
    core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "reader"}})
    token = core.create_namespaced_service_account_token(
        "reader", NAMESPACE, {"spec": {"audiences": [], "expirationSeconds": 600}}
    )
    own = client.Configuration.get_default_copy()
    own.cert_file = own.key_file = None
    own.api_key = {"authorization": f"Bearer {token.status.token}"}
    reader = client.CoreV1Api(client.ApiClient(own))
    refused = fails(403, reader.list_namespaced_pod, NAMESPACE)
    assert f"system:serviceaccount:{NAMESPACE}:reader" in refused.body, refused.body
    rbac = client.RbacAuthorizationV1Api(api)
    rbac.create_namespaced_role_binding(
        NAMESPACE,
        {
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": NAMESPACE}],
        },
    )

    def listed():
        try:
            return reader.list_namespaced_pod(NAMESPACE) is not None
        except ApiException as error:
            assert error.status == 403, error
            return False

    eventually("the reader may read", listed)


def leads():
    began = threading.Event()
    end = threading.Event()

    def lead():
        began.set()
        end.wait(PATIENCE)

    lock = LeaseLock("python-leader", NAMESPACE, "first")
    settings = electionconfig.Config(
        lock, lease_duration=17, renew_deadline=15, retry_period=1, onstarted_leading=lead, onstopped_leading=None
    )
    threading.Thread(target=elections.LeaderElection(settings).run, daemon=True).start()
    assert began.wait(PATIENCE), "nobody leads"
    lease = client.CoordinationV1Api().read_namespaced_lease("python-leader", NAMESPACE)
    assert lease.spec.holder_identity == "first", lease
    end.set()


def main():
    config.load_kube_config()
    api = client.ApiClient()
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    assert client.VersionApi(api).get_code().major == "1"
    objects(core)
    patches(core, apps)
    watches(core)
    informers(core)
    from_yaml(api, core)
    dynamics(api)
    streams(core)
    access(api)
    leads()
    core.delete_namespace(NAMESPACE)
    eventually("the namespace is gone", lambda: NAMESPACE not in [it.metadata.name for it in core.list_namespace().items])
    print("python works")


main()
