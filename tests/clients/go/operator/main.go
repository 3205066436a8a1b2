// An operator of controller-runtime as kubebuilder lays one out: a kind of its own with status, a finalizer, a Deployment
// that it owns, an index, events, leader election, and webhooks that default and judge. Its driver is in driver.go.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/cert"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/go-logr/logr/funcr"

	"freewheel.dev/tests/go/check"
)

const (
	namespace = "operator"
	finalizer = "operator.example.com/farewell"
	byImage   = "spec.image"
)

type reconciler struct {
	client.Client
	events events.EventRecorder
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	widget := &Widget{}
	if err := r.Get(ctx, request.NamespacedName, widget); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !widget.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.farewell(ctx, widget)
	}
	if controllerutil.AddFinalizer(widget, finalizer) {
		if err := r.Update(ctx, widget); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := r.Apply(ctx, deployment(widget), client.FieldOwner("operator"), client.ForceOwnership); err != nil {
		return ctrl.Result{}, err
	}
	found := &appsv1.Deployment{}
	if err := r.Get(ctx, request.NamespacedName, found); err != nil {
		// The cache may not have it yet; its event comes.
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	was := widget.DeepCopyObject().(*Widget)
	widget.Status.Wanted = *found.Spec.Replicas
	widget.Status.ObservedGeneration = widget.Generation
	changed := meta.SetStatusCondition(&widget.Status.Conditions, metav1.Condition{
		Type: "Deployed", Status: metav1.ConditionTrue, Reason: "Applied", Message: "its Deployment is there",
		ObservedGeneration: widget.Generation,
	})
	if changed {
		r.events.Eventf(widget, found, corev1.EventTypeNormal, "Deployed", "Deploy", "deployed %d", widget.Spec.Size)
	}
	return ctrl.Result{}, r.Status().Patch(ctx, widget, client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{}))
}

// farewell leaves a note of who went, and lets it go.
func (r *reconciler) farewell(ctx context.Context, widget *Widget) error {
	note := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "farewell-" + widget.Name, Namespace: namespace}}
	_, err := controllerutil.CreateOrUpdate(ctx, r.Client, note, func() error {
		note.Data = map[string]string{"size": fmt.Sprint(widget.Spec.Size)}
		return nil
	})
	if err == nil && controllerutil.RemoveFinalizer(widget, finalizer) {
		err = r.Update(ctx, widget)
	}
	if apierrors.IsConflict(err) {
		log.FromContext(ctx).Info("changed meanwhile")
	}
	return err
}

func deployment(widget *Widget) *appsapply.DeploymentApplyConfiguration {
	labels := map[string]string{"widget": widget.Name}
	owner := metaapply.OwnerReference().WithAPIVersion(group.String()).WithKind("Widget").WithName(widget.Name).
		WithUID(widget.UID).WithController(true).WithBlockOwnerDeletion(true)
	container := coreapply.Container().WithName("widget").WithImage(widget.Spec.Image)
	return appsapply.Deployment(widget.Name, namespace).WithOwnerReferences(owner).WithSpec(appsapply.DeploymentSpec().
		WithReplicas(widget.Spec.Size).WithSelector(metaapply.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(coreapply.PodTemplateSpec().WithLabels(labels).WithSpec(coreapply.PodSpec().WithContainers(container))))
}

// rules are asked by the webhooks.
type rules struct{}

func (rules) Default(_ context.Context, widget *Widget) error {
	if widget.Spec.Size == 0 {
		widget.Spec.Size = 2
	}
	return nil
}

func (rules) ValidateCreate(_ context.Context, widget *Widget) (admission.Warnings, error) {
	if widget.Spec.Size > 5 {
		return nil, fmt.Errorf("a widget of size %d does not fit", widget.Spec.Size)
	}
	return admission.Warnings{"widgets are deprecated"}, nil
}

func (it rules) ValidateUpdate(ctx context.Context, was, widget *Widget) (admission.Warnings, error) {
	if widget.DeletionTimestamp.IsZero() && widget.Spec.Size < was.Spec.Size {
		return nil, fmt.Errorf("a widget never shrinks from %d to %d", was.Spec.Size, widget.Spec.Size)
	}
	return it.ValidateCreate(ctx, widget)
}

func (rules) ValidateDelete(_ context.Context, widget *Widget) (admission.Warnings, error) {
	if _, kept := widget.Annotations["keep"]; kept {
		return nil, fmt.Errorf("%s is to be kept", widget.Name)
	}
	return nil, nil
}

// certificate writes one for the webhook's address, and gives what vouches for it.
func certificate() (string, []byte) {
	dir, err := os.MkdirTemp("", "operator")
	check.Must("a folder", err)
	pem, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	check.Must("a certificate", err)
	check.Must("its file", os.WriteFile(filepath.Join(dir, "tls.crt"), pem, 0o600))
	check.Must("its key", os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
	return dir, pem
}

func freePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check.Must("a free port", err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func manager(scheme *runtime.Scheme, certificates string, port int) ctrl.Manager {
	second := time.Second
	ten, fifteen := 10*second, 15*second
	made, err := ctrl.NewManager(check.Config(), ctrl.Options{
		Scheme:                        scheme,
		Cache:                         cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
		Metrics:                       server.Options{BindAddress: "0"},
		HealthProbeBindAddress:        "0",
		WebhookServer:                 webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port, CertDir: certificates}),
		LeaderElection:                true,
		LeaderElectionID:              "operator.example.com",
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &fifteen, RenewDeadline: &ten, RetryPeriod: &second,
	})
	check.Must("a manager", err)
	check.Must("a controller", builder.ControllerManagedBy(made).
		For(&Widget{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Owns(&appsv1.Deployment{}).
		Complete(&reconciler{Client: made.GetClient(), events: made.GetEventRecorder("operator")}))
	check.Must("webhooks", builder.WebhookManagedBy(made, &Widget{}).WithDefaulter(rules{}).WithValidator(rules{}).Complete())
	index := func(object client.Object) []string { return []string{object.(*Widget).Spec.Image} }
	check.Must("an index", made.GetFieldIndexer().IndexField(context.Background(), &Widget{}, byImage, index))
	return made
}

func main() {
	ctx, stop := check.Context()
	defer stop()
	// What it logs is read when it fails.
	log.SetLogger(funcr.New(func(prefix, words string) { fmt.Fprintln(os.Stderr, prefix, words) }, funcr.Options{}))
	scheme := newScheme()
	certificates, authority := certificate()
	port := freePort()
	install(ctx, scheme)
	made := manager(scheme, certificates, port)
	running, end := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- made.Start(running) }()
	<-made.Elected()
	drive(ctx, made, port, authority)
	end()
	check.Must("the manager", <-ended)
	check.Must("its certificates", os.RemoveAll(certificates))
	fmt.Println("the operator works")
}
