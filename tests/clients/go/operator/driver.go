package main

import (
	"context"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"freewheel.dev/tests/go/check"
)

// install brings the operator's kind to the cluster, as its chart would.
func install(ctx context.Context, scheme *runtime.Scheme) {
	kube, err := client.New(check.Config(), client.Options{Scheme: scheme})
	check.Must("a client", err)
	check.Must("a namespace", kube.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	made := definition()
	check.Must("a definition", kube.Create(ctx, made))
	check.Eventually("it is established", func() (bool, any) {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(made), made); err != nil {
			return false, err
		}
		for _, condition := range made.Status.Conditions {
			if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
				return true, nil
			}
		}
		return false, made.Status.Conditions
	})
}

// ask has the webhooks asked, as cert-manager and kubebuilder would write their configurations.
func ask(ctx context.Context, kube client.Client, port int, authority []byte) {
	sides, fail, equivalent := admissionv1.SideEffectClassNone, admissionv1.Fail, admissionv1.Equivalent
	config := func(path string) (admissionv1.WebhookClientConfig, []admissionv1.RuleWithOperations) {
		url := fmt.Sprintf("https://127.0.0.1:%d/%s-operator-example-com-v1-widget", port, path)
		rule := admissionv1.Rule{APIGroups: []string{group.Group}, APIVersions: []string{"v1"}, Resources: []string{"widgets"}}
		operations := []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}
		if path == "validate" {
			operations = append(operations, admissionv1.Delete)
		}
		return admissionv1.WebhookClientConfig{URL: &url, CABundle: authority},
			[]admissionv1.RuleWithOperations{{Operations: operations, Rule: rule}}
	}
	to, rules := config("mutate")
	check.Must("the one that defaults", kube.Create(ctx, &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "operator"},
		Webhooks: []admissionv1.MutatingWebhook{{Name: "default.operator.example.com", ClientConfig: to, Rules: rules,
			SideEffects: &sides, FailurePolicy: &fail, MatchPolicy: &equivalent, AdmissionReviewVersions: []string{"v1"}}},
	}))
	to, rules = config("validate")
	check.Must("the one that judges", kube.Create(ctx, &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "operator"},
		Webhooks: []admissionv1.ValidatingWebhook{{Name: "judge.operator.example.com", ClientConfig: to, Rules: rules,
			SideEffects: &sides, FailurePolicy: &fail, MatchPolicy: &equivalent, AdmissionReviewVersions: []string{"v1"}}},
	}))
}

func widget(name string, size int32) *Widget {
	return &Widget{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: WidgetSpec{Image: "hello:v1", Size: size}}
}

// drive is the operator's user.
func drive(ctx context.Context, made ctrl.Manager, port int, authority []byte) {
	kube := made.GetClient()
	direct, err := client.New(check.Config(), client.Options{Scheme: made.GetScheme()})
	check.Must("a client", err)
	check.Eventually("the webhook listens", func() (bool, any) {
		err := made.GetWebhookServer().StartedChecker()(nil)
		return err == nil, err
	})
	ask(ctx, direct, port, authority)

	one := widget("one", 0)
	check.Must("a widget", direct.Create(ctx, one))
	check.That(one.Spec.Size == 2, "the webhook defaults", one.Spec)
	err = direct.Create(ctx, widget("large", 9))
	check.That(apierrors.IsForbidden(err) && strings.Contains(err.Error(),
		`admission webhook "judge.operator.example.com" denied the request: a widget of size 9 does not fit`), "the webhook judges", err)
	deployed(ctx, direct, 2)
	observed(ctx, direct, 1, 2)
	changes(ctx, direct)
	repairs(ctx, direct)
	indexed(ctx, kube)
	told(ctx, direct)
	ends(ctx, direct)
}

func deployed(ctx context.Context, kube client.Client, size int32) *deploymentKind {
	found := &deploymentKind{}
	check.Eventually("the Deployment has its size", func() (bool, any) {
		if err := kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "one"}, found); err != nil {
			return false, err
		}
		return *found.Spec.Replicas == size, *found.Spec.Replicas
	})
	owner := metav1.GetControllerOf(found)
	check.That(owner != nil && owner.Kind == "Widget" && *owner.BlockOwnerDeletion, "it is the widget's", found.OwnerReferences)
	return found
}

func observed(ctx context.Context, kube client.Client, generation int64, size int32) {
	found := widget("one", 0)
	check.Eventually("the status tells of the generation", func() (bool, any) {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(found), found); err != nil {
			return false, err
		}
		condition := meta.FindStatusCondition(found.Status.Conditions, "Deployed")
		return condition != nil && condition.ObservedGeneration == generation && found.Status.Wanted == size, found.Status
	})
	check.That(found.Generation == generation, "no status is a generation", found.Generation)
	check.That(len(found.Finalizers) == 1, "it has its finalizer", found.Finalizers)
}

func changes(ctx context.Context, kube client.Client) {
	found := widget("one", 0)
	check.Must("the widget", kube.Get(ctx, client.ObjectKeyFromObject(found), found))
	found.Spec.Size, found.Status.Wanted = 4, 77
	check.Must("a larger one", kube.Update(ctx, found))
	deployed(ctx, kube, 4)
	observed(ctx, kube, 2, 4)
	err := kube.Patch(ctx, widget("one", 0), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"size":3}}`)))
	check.That(apierrors.IsForbidden(err) && strings.Contains(err.Error(), "never shrinks from 4 to 3"), "it sees what was", err)
	err = kube.Update(ctx, func() client.Object { found.ResourceVersion = "1"; return found }())
	check.That(apierrors.IsConflict(err), "an older version is a conflict", err)
	pretended := widget("pretended", 0)
	check.Must("a pretence", client.NewDryRunClient(kube).Create(ctx, pretended))
	check.That(pretended.Spec.Size == 2, "a pretence is defaulted", pretended.Spec)
	err = kube.Get(ctx, client.ObjectKeyFromObject(pretended), pretended)
	check.That(apierrors.IsNotFound(err), "it was one", err)
}

// repairs what somebody deleted or changed.
func repairs(ctx context.Context, kube client.Client) {
	was := deployed(ctx, kube, 4)
	check.Must("a delete", kube.Delete(ctx, was))
	check.Eventually("it is made anew", func() (bool, any) {
		found := &deploymentKind{}
		err := kube.Get(ctx, client.ObjectKeyFromObject(was), found)
		return err == nil && found.UID != was.UID, err
	})
	found := deployed(ctx, kube, 4)
	other := client.RawPatch("application/json-patch+json",
		[]byte(`[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"other:v1"}]`))
	check.Must("somebody's change", kube.Patch(ctx, found, other, client.FieldOwner("somebody")))
	check.Eventually("its image is put right", func() (bool, any) {
		image := deployed(ctx, kube, 4).Spec.Template.Spec.Containers[0].Image
		return image == "hello:v1", image
	})
}

func indexed(ctx context.Context, kube client.Client) {
	list := &WidgetList{}
	check.Must("a list from the cache", kube.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{byImage: "hello:v1"}))
	check.That(len(list.Items) == 1, "the index finds it", list.Items)
	check.Must("none", kube.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{byImage: "none"}))
	check.That(len(list.Items) == 0, "and nothing else", list.Items)
}

// told looks for the event, in the newer API of events, about two objects.
func told(ctx context.Context, kube client.Client) {
	check.Eventually("there is an event", func() (bool, any) {
		list := &eventsv1.EventList{}
		if err := kube.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return false, err
		}
		for _, event := range list.Items {
			if event.Reason == "Deployed" && event.Regarding.Name == "one" {
				return event.Action == "Deploy" && event.Related.Kind == "Deployment", event
			}
		}
		return false, list.Items
	})
}

// ends deletes it: its finalizer holds it until the note is written, and what it owned goes after it.
func ends(ctx context.Context, kube client.Client) {
	found := widget("one", 0)
	keep := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"keep":"yes"}}}`))
	check.Must("an annotation", kube.Patch(ctx, found, keep))
	err := kube.Delete(ctx, widget("one", 0))
	check.That(apierrors.IsForbidden(err) && strings.Contains(err.Error(), "one is to be kept"), "a delete is judged", err)
	let := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"keep":null}}}`))
	check.Must("no annotation", kube.Patch(ctx, found, let))
	check.Must("a delete", kube.Delete(ctx, widget("one", 0), client.PropagationPolicy(metav1.DeletePropagationForeground)))
	check.Eventually("all of it is gone", func() (bool, any) {
		owner := kube.Get(ctx, client.ObjectKeyFromObject(found), widget("one", 0))
		owned := kube.Get(ctx, client.ObjectKeyFromObject(found), &deploymentKind{})
		return apierrors.IsNotFound(owner) && apierrors.IsNotFound(owned), []error{owner, owned}
	})
	note := &noteKind{}
	check.Must("the note", kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "farewell-one"}, note))
	check.That(note.Data["size"] == "4", "it tells of the last size", note.Data)
}
