// What a controller of client-go consists of: shared informers, listers, a work queue, leader election, events, pages
// and watches. It mirrors ConfigMaps into Secrets, and says so on standard output; between `ready` and a line on
// standard input the hub may be started again.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/tools/record"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/client-go/util/workqueue"

	"freewheel.dev/tests/go/check"
)

const namespace = "informers"

func main() {
	ctx, stop := check.Context()
	defer stop()
	config := check.Config()
	client := kubernetes.NewForConfigOrDie(config)
	_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	check.Must("a namespace", err)

	mirror := newMirror(client)
	mirror.start(ctx)
	mirrors(ctx, client)
	pages(ctx, client)
	only := metadataOnly(ctx, metadata.NewForConfigOrDie(config))
	watches(ctx, client)
	elects(ctx, client)

	fmt.Println("ready")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	check.Must("a line that goes on", err)
	create(ctx, client, "later", map[string]string{"mirror": "yes"})
	mirrored(ctx, client, "later", "1")
	check.Eventually("the informer of metadata goes on", func() (bool, any) {
		_, there, err := only.GetByKey(namespace + "/later")
		return there && err == nil, err
	})
	fmt.Println("informers work")
}

// mirror is the usual controller: handlers fill a queue, a worker makes what is there what it should be.
type mirror struct {
	client kubernetes.Interface
	shared informers.SharedInformerFactory
	maps   listers.ConfigMapLister
	queue  workqueue.TypedRateLimitingInterface[string]
	failed atomic.Int32
}

func newMirror(client kubernetes.Interface) *mirror {
	shared := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = "mirror=yes" }))
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	it := &mirror{client: client, shared: shared, maps: shared.Core().V1().ConfigMaps().Lister(), queue: queue}
	enqueue := func(object any) {
		key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
		check.Must("a key", err)
		queue.Add(key)
	}
	_, err := shared.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    enqueue,
		UpdateFunc: func(_, object any) { enqueue(object) },
		DeleteFunc: enqueue,
	})
	check.Must("a handler", err)
	return it
}

func (it *mirror) start(ctx context.Context) {
	it.shared.Start(ctx.Done())
	for kind, synced := range it.shared.WaitForCacheSync(ctx.Done()) {
		check.That(synced, "the cache is filled", kind)
	}
	go func() {
		for {
			key, end := it.queue.Get()
			if end {
				return
			}
			if err := it.sync(ctx, key); err != nil {
				it.failed.Add(1)
				it.queue.AddRateLimited(key)
			} else {
				it.queue.Forget(key)
			}
			it.queue.Done(key)
		}
	}()
}

func (it *mirror) sync(ctx context.Context, key string) error {
	_, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return err
	}
	secrets := it.client.CoreV1().Secrets(namespace)
	found, err := it.maps.ConfigMaps(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		err = secrets.Delete(ctx, name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	wanted := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: found.Data}
	_, err = secrets.Create(ctx, wanted, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	there, err := secrets.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	there.StringData = found.Data
	_, err = secrets.Update(ctx, there, metav1.UpdateOptions{})
	return err
}

func create(ctx context.Context, client kubernetes.Interface, name string, labels map[string]string) *corev1.ConfigMap {
	made, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Data:       map[string]string{"value": "1"},
	}, metav1.CreateOptions{})
	check.Must("a ConfigMap", err)
	return made
}

func mirrored(ctx context.Context, client kubernetes.Interface, name, value string) {
	check.Eventually("the Secret "+name+" says "+value, func() (bool, any) {
		found, err := client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return string(found.Data["value"]) == value, found.Data
	})
}

func mirrors(ctx context.Context, client kubernetes.Interface) {
	made := create(ctx, client, "one", map[string]string{"mirror": "yes"})
	create(ctx, client, "other", nil)
	mirrored(ctx, client, "one", "1")
	made.Data["value"] = "2"
	changed, err := client.CoreV1().ConfigMaps(namespace).Update(ctx, made, metav1.UpdateOptions{})
	check.Must("an update", err)
	mirrored(ctx, client, "one", "2")
	_, err = client.CoreV1().ConfigMaps(namespace).Update(ctx, made, metav1.UpdateOptions{})
	check.That(apierrors.IsConflict(err), "who writes from an older version is told of a conflict", err)
	// An object that loses the selected label is one that was deleted, to a watch that selects.
	changed.Labels = nil
	_, err = client.CoreV1().ConfigMaps(namespace).Update(ctx, changed, metav1.UpdateOptions{})
	check.Must("an update", err)
	check.Eventually("the Secret goes with the label", func() (bool, any) {
		_, err := client.CoreV1().Secrets(namespace).Get(ctx, "one", metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
	_, err = client.CoreV1().Secrets(namespace).Get(ctx, "other", metav1.GetOptions{})
	check.That(apierrors.IsNotFound(err), "what is not selected is not mirrored", err)
}

// pages reads a list in parts, of which each is of the same moment.
func pages(ctx context.Context, client kubernetes.Interface) {
	for at := range 25 {
		create(ctx, client, fmt.Sprintf("page-%02d", at), map[string]string{"page": "yes"})
	}
	asked, seen := 0, map[string]bool{}
	lists := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		asked++
		if asked == 2 {
			create(ctx, client, "page-99", map[string]string{"page": "yes"})
		}
		return client.CoreV1().ConfigMaps(namespace).List(ctx, options)
	})
	lists.PageSize, lists.PageBufferSize = 10, 0
	options := metav1.ListOptions{LabelSelector: labels.Set{"page": "yes"}.String()}
	err := lists.EachListItem(ctx, options, func(object runtime.Object) error {
		seen[object.(*corev1.ConfigMap).Name] = true
		return nil
	})
	check.Must("pages", err)
	check.That(len(seen) == 25 && !seen["page-99"] && asked == 3, "three pages of one moment", asked, seen)
}

// metadataOnly is an informer that wants no more of objects than their metadata, as garbage collectors do.
func metadataOnly(ctx context.Context, client metadata.Interface) cache.Indexer {
	factory := metadatainformer.NewFilteredSharedInformerFactory(client, 0, namespace, nil)
	informer := factory.ForResource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Informer()
	factory.Start(ctx.Done())
	check.That(cache.WaitForCacheSync(ctx.Done(), informer.HasSynced), "the metadata are there")
	check.Eventually("metadata of all pages", func() (bool, any) {
		count := 0
		for _, object := range informer.GetStore().List() {
			if object.(*metav1.PartialObjectMetadata).Labels["page"] == "yes" {
				count++
			}
		}
		return count == 26, count
	})
	return informer.GetIndexer()
}

// watches follows one object through a watch that resumes, from its creation to its end, and events about it.
func watches(ctx context.Context, client kubernetes.Interface) {
	maps := client.CoreV1().ConfigMaps(namespace)
	list, err := maps.List(ctx, metav1.ListOptions{})
	check.Must("a list", err)
	only := func(options *metav1.ListOptions) { options.FieldSelector = "metadata.name=watched" }
	lists := cache.NewFilteredListWatchFromClient(client.CoreV1().RESTClient(), "configmaps", namespace, only)
	watched := create(ctx, client, "watched", nil)
	_, err = maps.Patch(ctx, "watched", "application/merge-patch+json", []byte(`{"data":{"value":"2"}}`), metav1.PatchOptions{})
	check.Must("a patch", err)
	check.Must("a delete", maps.Delete(ctx, "watched", metav1.DeleteOptions{}))
	var seen []watch.EventType
	_, err = watchtools.Until(ctx, list.ResourceVersion, lists, func(event watch.Event) (bool, error) {
		seen = append(seen, event.Type)
		return event.Type == watch.Deleted, nil
	})
	check.Must("a watch", err)
	check.That(len(seen) == 3 && seen[0] == watch.Added && seen[1] == watch.Modified, "added, modified, deleted", seen)

	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typed.EventSinkImpl{Interface: client.CoreV1().Events(namespace)})
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "informers"})
	for range 3 {
		recorder.Event(watched, corev1.EventTypeNormal, "Mirrored", "it was mirrored")
	}
	check.Eventually("the same event is counted", func() (bool, any) {
		found, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=watched,reason=Mirrored"})
		if err != nil {
			return false, err
		}
		return len(found.Items) == 1 && found.Items[0].Count == 3, found.Items
	})
}

// elects has two candidates: one leads, and the other one takes over when it lets go.
func elects(ctx context.Context, client kubernetes.Interface) {
	var leader atomic.Value
	leader.Store("")
	run := func(ctx context.Context, name string) chan struct{} {
		lock, err := resourcelock.New(resourcelock.LeasesResourceLock, namespace, "leader", client.CoreV1(),
			client.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: name})
		check.Must("a lock", err)
		ended := make(chan struct{})
		go func() {
			leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
				Lock: lock, ReleaseOnCancel: true,
				LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 200 * time.Millisecond,
				Callbacks: leaderelection.LeaderCallbacks{
					OnStartedLeading: func(context.Context) { leader.Store(name) },
					OnStoppedLeading: func() {},
				},
			})
			close(ended)
		}()
		return ended
	}
	leads := func(name string) {
		check.Eventually(name+" leads", func() (bool, any) { return leader.Load() == name, leader.Load() })
		lease, err := client.CoordinationV1().Leases(namespace).Get(ctx, "leader", metav1.GetOptions{})
		check.Must("the lease", err)
		check.That(*lease.Spec.HolderIdentity == name, "the lease names who leads", lease.Spec)
	}
	first, letGo := context.WithCancel(ctx)
	ended := run(first, "first")
	leads("first")
	second, done := context.WithCancel(ctx)
	waits := run(second, "second")
	letGo()
	<-ended
	leads("second")
	done()
	<-waits
}
