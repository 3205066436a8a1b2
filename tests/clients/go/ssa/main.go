// Flux's apply engine, as its controllers use it: dry-run, staged apply, drift, immutable fields, waiting and pruning.
package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	"github.com/fluxcd/pkg/ssa/utils"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"freewheel.dev/tests/go/check"
)

const sources = `
apiVersion: v1
kind: Namespace
metadata: {name: flux}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: valves.flux.example.com}
spec:
  group: flux.example.com
  scope: Namespaced
  names: {plural: valves, kind: Valve}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {open: {type: boolean, default: true}}}}}}
---
apiVersion: flux.example.com/v1
kind: Valve
metadata: {name: main, namespace: flux}
spec: {}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: flux}
data: {level: info}
---
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: flux}
stringData: {password: secret}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: flux}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: flux-web}
rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: flux}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: metrics, port: 9090}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: flux}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: hello-http:v1
        ports: [{containerPort: 8080}]
        resources: {limits: {cpu: 1000m, memory: 64Mi}}
        env: [{name: A, value: a}, {name: B, value: b}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: flux}
spec: {podSelector: {}, policyTypes: [Ingress]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: flux}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: idle}
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: flux}
spec:
  schedule: '0 3 * * *'
  suspend: true
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'hello-http:v1'}]}}}}
`

func main() {
	ctx, stop := check.Context()
	defer stop()
	kubeconfig := check.Config()
	manager := engine(kubeconfig)
	objects := parse(sources)
	manager.SetOwnerLabels(objects, "demo", "flux-system")

	applied := applyAll(ctx, manager, objects, ssa.DefaultApplyOptions())
	all(applied, ssa.CreatedAction, len(objects))
	waits(manager, objects)
	// What the server defaults and writes in its own way is no drift.
	all(applyAll(ctx, manager, fresh(manager), ssa.DefaultApplyOptions()), ssa.UnchangedAction, len(objects))
	drifts(ctx, manager)
	fields(ctx, manager)
	immutable(ctx, manager)
	prunes(ctx, manager)
	fmt.Println("flux applies")
}

// engine is made as kustomize-controller makes its own.
func engine(kubeconfig *rest.Config) *ssa.ResourceManager {
	http, err := rest.HTTPClientFor(kubeconfig)
	check.Must("an HTTP client", err)
	mapper, err := apiutil.NewDynamicRESTMapper(kubeconfig, http)
	check.Must("a mapper", err)
	kube, err := client.New(kubeconfig, client.Options{Mapper: mapper, HTTPClient: http})
	check.Must("a client", err)
	poller := polling.NewStatusPoller(kube, mapper, polling.Options{})
	manager := ssa.NewResourceManager(kube, poller, ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"})
	manager.SetConcurrency(4)
	return manager
}

func parse(text string) []*unstructured.Unstructured {
	objects, err := utils.ReadObjects(strings.NewReader(text))
	check.Must("manifests", err)
	check.Must("their form", normalize.UnstructuredList(objects))
	return objects
}

func fresh(manager *ssa.ResourceManager) []*unstructured.Unstructured {
	objects := parse(sources)
	manager.SetOwnerLabels(objects, "demo", "flux-system")
	return objects
}

func applyAll(ctx context.Context, manager *ssa.ResourceManager, objects []*unstructured.Unstructured, options ssa.ApplyOptions) *ssa.ChangeSet {
	options.WaitInterval, options.WaitTimeout = 100*time.Millisecond, check.Patience
	changes, err := manager.ApplyAllStaged(ctx, objects, options)
	check.Must("an apply", err)
	return changes
}

func all(changes *ssa.ChangeSet, action ssa.Action, count int) {
	check.That(len(changes.Entries) == count, "each object is told of", changes)
	for _, entry := range changes.Entries {
		check.That(entry.Action == action, "each is "+string(action), changes)
	}
}

func waits(manager *ssa.ResourceManager, objects []*unstructured.Unstructured) {
	options := ssa.WaitOptions{Interval: 100 * time.Millisecond, Timeout: check.Patience, FailFast: true}
	check.Must("all is as it should be", manager.Wait(objects, options))
}

func pick(objects []*unstructured.Unstructured, kind string) *unstructured.Unstructured {
	for _, object := range objects {
		if object.GetKind() == kind {
			return object
		}
	}
	check.Fail("no %s", kind)
	return nil
}

func live(ctx context.Context, manager *ssa.ResourceManager, kind string) *unstructured.Unstructured {
	found := pick(fresh(manager), kind)
	check.Must("what is there", manager.Client().Get(ctx, client.ObjectKeyFromObject(found), found))
	return found
}

// drifts has somebody else change what is applied: it is seen, and put right.
func drifts(ctx context.Context, manager *ssa.ResourceManager) {
	changed := live(ctx, manager, "ConfigMap")
	check.Must("a change", unstructured.SetNestedField(changed.Object, "debug", "data", "level"))
	check.Must("somebody's change", manager.Client().Update(ctx, changed, client.FieldOwner("somebody")))
	entry, before, after, err := manager.Diff(ctx, pick(fresh(manager), "ConfigMap"), ssa.DefaultDiffOptions())
	check.Must("a diff", err)
	was, _, _ := unstructured.NestedString(before.Object, "data", "level")
	would, _, _ := unstructured.NestedString(after.Object, "data", "level")
	check.That(entry.Action == ssa.ConfiguredAction && was == "debug" && would == "info", "the drift is told", entry, was, would)
	changes := applyAll(ctx, manager, fresh(manager), ssa.DefaultApplyOptions())
	for _, entry := range changes.Entries {
		check.That((entry.Action == ssa.ConfiguredAction) == strings.HasPrefix(entry.Subject, "ConfigMap/"), "one is put right", changes)
	}
	level, _, _ := unstructured.NestedString(live(ctx, manager, "ConfigMap").Object, "data", "level")
	check.That(level == "info", "it is as applied again", level)
}

// fields that are left out go, fields of others stay, and what kubectl left behind is cleaned up.
func fields(ctx context.Context, manager *ssa.ResourceManager) {
	patch := []byte(`{"spec":{"template":{"metadata":{"annotations":{"theirs":"stays"}}}},"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}"}}}`)
	found := live(ctx, manager, "Deployment")
	check.Must("a patch", manager.Client().Patch(ctx, found, client.RawPatch("application/merge-patch+json", patch), client.FieldOwner("kubectl-edit")))
	wanted := pick(fresh(manager), "Deployment")
	containers, _, _ := unstructured.NestedSlice(wanted.Object, "spec", "template", "spec", "containers")
	containers[0].(map[string]any)["env"] = []any{map[string]any{"name": "B", "value": "b"}}
	check.Must("less", unstructured.SetNestedSlice(wanted.Object, containers, "spec", "template", "spec", "containers"))
	options := ssa.DefaultApplyOptions()
	options.Cleanup.Annotations = []string{"kubectl.kubernetes.io/last-applied-configuration"}
	entry, err := manager.Apply(ctx, wanted, options)
	check.Must("an apply", err)
	check.That(entry.Action == ssa.ConfiguredAction, "less is another", entry)
	found = live(ctx, manager, "Deployment")
	containers, _, _ = unstructured.NestedSlice(found.Object, "spec", "template", "spec", "containers")
	env := containers[0].(map[string]any)["env"].([]any)
	theirs, _, _ := unstructured.NestedString(found.Object, "spec", "template", "metadata", "annotations", "theirs")
	_, left := found.GetAnnotations()["kubectl.kubernetes.io/last-applied-configuration"]
	check.That(len(env) == 1 && theirs == "stays" && !left, "what is left out goes, what is others' stays", env, theirs, left)
	check.That(env[0].(map[string]any)["name"] == "B", "the other one is left", env)
}

// immutable fields are refused, and with force the object is made anew.
func immutable(ctx context.Context, manager *ssa.ResourceManager) {
	wanted := pick(fresh(manager), "Deployment")
	for _, path := range [][]string{{"spec", "selector", "matchLabels"}, {"spec", "template", "metadata", "labels"}} {
		check.Must("another label", unstructured.SetNestedStringMap(wanted.Object, map[string]string{"app": "other"}, path...))
	}
	uid := live(ctx, manager, "Deployment").GetUID()
	_, err := manager.Apply(ctx, wanted.DeepCopy(), ssa.DefaultApplyOptions())
	check.That(err != nil && strings.Contains(err.Error(), "immutable"), "it is refused", err)
	options := ssa.DefaultApplyOptions()
	options.Force, options.WaitInterval, options.WaitTimeout = true, 100*time.Millisecond, check.Patience
	_, err = manager.Apply(ctx, wanted.DeepCopy(), options)
	check.Must("by force", err)
	check.That(live(ctx, manager, "Deployment").GetUID() != uid, "it is another one")
}

// prunes deletes all that has the owner's labels, and waits until it is gone.
func prunes(ctx context.Context, manager *ssa.ResourceManager) {
	foreign := &unstructured.Unstructured{}
	foreign.SetAPIVersion("v1")
	foreign.SetKind("ConfigMap")
	foreign.SetName("foreign")
	foreign.SetNamespace("default")
	check.Must("a ConfigMap", manager.Client().Create(ctx, foreign.DeepCopy()))
	options := ssa.DefaultDeleteOptions()
	options.Inclusions = manager.GetOwnerLabels("demo", "flux-system")
	changes, err := manager.DeleteAll(ctx, append(fresh(manager), foreign), options)
	check.Must("a prune", err)
	for _, entry := range changes.Entries {
		check.That((entry.Action == ssa.SkippedAction) == strings.HasSuffix(entry.Subject, "foreign"), "all go but what is not ours", changes)
	}
	wait := ssa.WaitOptions{Interval: 100 * time.Millisecond, Timeout: check.Patience}
	check.Must("all is gone", manager.WaitForSetTermination(changes, wait))
	check.Must("it is still there", manager.Client().Get(ctx, client.ObjectKeyFromObject(foreign), foreign))
	gone := pick(fresh(manager), "Namespace")
	err = manager.Client().Get(ctx, client.ObjectKeyFromObject(gone), gone)
	check.That(apierrors.IsNotFound(err), "the namespace is gone", err)
}
