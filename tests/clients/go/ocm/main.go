// What an administrator of a fleet asks with the typed clients of Open Cluster Management, as its command line does:
// request by request, in the root of the hub and in the cluster of a spoke.
//
//	ocm accept NAME    both halves of the double opt-in, by whose request it is
//	ocm fleet NAME     all the rest, with a cluster that is there; its kubeconfig is in $SPOKE_KUBECONFIG
package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	extensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	addonv1alpha1 "open-cluster-management.io/api/addon/v1alpha1"
	addons "open-cluster-management.io/api/client/addon/clientset/versioned"
	clusters "open-cluster-management.io/api/client/cluster/clientset/versioned"
	operators "open-cluster-management.io/api/client/operator/clientset/versioned"
	works "open-cluster-management.io/api/client/work/clientset/versioned"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	operatorv1 "open-cluster-management.io/api/operator/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"

	"freewheel.dev/tests/go/check"
)

const (
	namespace  = "open-cluster-management"
	account    = "agent-registration-bootstrap"
	setLabel   = "cluster.open-cluster-management.io/clusterset"
	nameLabel  = "open-cluster-management.io/cluster-name"
	addOnLabel = "open-cluster-management.io/addon-name"
	bootstrap  = "system:bootstrappers:managedcluster"
)

// hub is its API, as one kubeconfig sees it.
type hub struct {
	config     *rest.Config
	kube       kubernetes.Interface
	clusters   clusters.Interface
	works      works.Interface
	addons     addons.Interface
	operators  operators.Interface
	extensions extensions.Interface
}

func connect(config *rest.Config) hub {
	kube, err := kubernetes.NewForConfig(config)
	check.Must("a client", err)
	return hub{
		config, kube, clusters.NewForConfigOrDie(config), works.NewForConfigOrDie(config),
		addons.NewForConfigOrDie(config), operators.NewForConfigOrDie(config),
		extensions.NewForConfigOrDie(config),
	}
}

func main() {
	ctx, cancel := check.Context()
	defer cancel()
	here, name := connect(check.Config()), os.Args[2]
	here.isHub()
	switch os.Args[1] {
	case "accept":
		here.accept(ctx, name)
	case "fleet":
		here.tokens(ctx)
		here.definitions(ctx)
		here.operator(ctx)
		spoke(ctx, name)
		here.sets(ctx, name)
		here.placement(ctx, name)
		here.work(ctx, name)
		here.addon(ctx, name)
		here.remove(ctx)
	}
	fmt.Println("the fleet is administered")
}

// isHub is what every command looks at first.
func (h hub) isHub() {
	list, err := h.clusters.Discovery().ServerResourcesForGroupVersion(clusterv1.GroupVersion.String())
	check.Must("discovery", err)
	for _, one := range list.APIResources {
		if one.Name == "managedclusters" {
			return
		}
	}
	check.Fail("no managedclusters: %v", list)
}

// accept approves what bootstrapping identities ask for the cluster, and nothing else.
func (h hub) accept(ctx context.Context, name string) {
	_, err := h.clusters.ClusterV1().ManagedClusters().Get(ctx, name, metav1.GetOptions{})
	check.Must("the cluster", err)
	requests := h.kube.CertificatesV1().CertificateSigningRequests()
	list, err := requests.List(ctx, metav1.ListOptions{LabelSelector: nameLabel + " = " + name})
	check.Must("its requests", err)
	check.That(len(list.Items) == 1, "it has asked once", list.Items)
	request := list.Items[0]
	check.That(strings.HasPrefix(request.Spec.Username, "system:bootstrap:"), "by its token", request.Spec)
	groups := strings.Join(request.Spec.Groups, " ")
	check.That(strings.Contains(groups, bootstrap), "as one that bootstraps", groups)
	block, _ := pem.Decode(request.Spec.Request)
	check.That(block != nil && block.Type == "CERTIFICATE REQUEST", "it is one")
	_, err = x509.ParseCertificateRequest(block.Bytes)
	check.Must("its request", err)
	request.Status.Conditions = append(request.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Status: corev1.ConditionTrue, Type: certificatesv1.CertificateApproved, Reason: "Approve",
		Message: "by a program", LastUpdateTime: metav1.Now(),
	})
	_, err = requests.UpdateApproval(ctx, request.Name, &request, metav1.UpdateOptions{})
	check.Must("an approval", err)
	accepts := []byte(`{"spec":{"hubAcceptsClient":true}}`)
	_, err = h.clusters.ClusterV1().ManagedClusters().Patch(ctx, name, types.MergePatchType, accepts, metav1.PatchOptions{})
	check.Must("to accept it", err)
	check.Eventually("it joins and is available", func() (bool, any) {
		now, err := h.clusters.ClusterV1().ManagedClusters().Get(ctx, name, metav1.GetOptions{})
		check.Must("the cluster", err)
		all := now.Status.Conditions
		return meta.IsStatusConditionTrue(all, clusterv1.ManagedClusterConditionJoined) &&
			meta.IsStatusConditionTrue(all, clusterv1.ManagedClusterConditionAvailable), all
	})
}

// tokens are made for the account that agents ask to join as; what they may is to ask.
func (h hub) tokens(ctx context.Context) {
	seconds := int64(3600)
	asked := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	made, err := h.kube.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, asked, metav1.CreateOptions{})
	check.Must("a token", err)
	config := rest.AnonymousClientConfig(h.config)
	config.BearerToken = made.Status.Token
	agent := connect(config)
	_, err = agent.clusters.ClusterV1().ManagedClusters().List(ctx, metav1.ListOptions{})
	check.Must("whoever joins sees clusters", err)
	_, err = agent.kube.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{})
	check.That(apierrors.IsForbidden(err), "and nothing of others", err)
	labelled, err := h.kube.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "app = cluster-manager"})
	check.Must("bootstrap tokens", err)
	check.That(len(labelled.Items) != 0 && strings.HasPrefix(labelled.Items[0].Name, "bootstrap-token-"),
		"those that the hub made are found", labelled.Items)
}

// definitions say that this is a hub; what would install one is told that it is there.
func (h hub) definitions(ctx context.Context) {
	all := h.extensions.ApiextensionsV1().CustomResourceDefinitions()
	for _, name := range []string{
		"clustermanagers.operator.open-cluster-management.io", "klusterlets.operator.open-cluster-management.io",
		"managedclusters.cluster.open-cluster-management.io", "manifestworks.work.open-cluster-management.io",
	} {
		one, err := all.Get(ctx, name, metav1.GetOptions{})
		check.Must(name, err)
		check.That(established(one), "it is established", one.Status)
	}
	patch := []byte(`{"spec":{"names":{"categories":["ocm"]}}}`)
	_, err := all.Patch(ctx, "clustermanagers.operator.open-cluster-management.io", types.MergePatchType, patch, metav1.PatchOptions{})
	check.That(apierrors.IsForbidden(err) && strings.Contains(err.Error(), "there is nothing to install"), "it is the hub's own", err)
}

func established(definition *extensionsv1.CustomResourceDefinition) bool {
	for _, condition := range definition.Status.Conditions {
		if condition.Type == extensionsv1.Established {
			return condition.Status == extensionsv1.ConditionTrue
		}
	}
	return false
}

func (h hub) operator(ctx context.Context) {
	one, err := h.operators.OperatorV1().ClusterManagers().Get(ctx, "cluster-manager", metav1.GetOptions{})
	check.Must("the ClusterManager", err)
	check.That(meta.IsStatusConditionTrue(one.Status.Conditions, operatorv1.ConditionClusterManagerApplied), "it is applied", one.Status)
	check.That(meta.IsStatusConditionFalse(one.Status.Conditions, operatorv1.ConditionHubRegistrationDegraded), "it is well", one.Status)
	// What is shown of its parts is looked up by these; nothing runs as a Deployment here.
	for _, part := range one.Status.RelatedResources {
		if part.Resource == "customresourcedefinitions" {
			_, err := h.extensions.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, part.Name, metav1.GetOptions{})
			check.Must("a definition that it names", err)
			continue
		}
		_, err := h.kube.AppsV1().Deployments(part.Namespace).Get(ctx, part.Name, metav1.GetOptions{})
		check.That(apierrors.IsNotFound(err), "it is a part of the hub", part, err)
	}
	_, err = h.operators.OperatorV1().ClusterManagers().Create(ctx, one, metav1.CreateOptions{})
	check.That(apierrors.IsMethodNotSupported(err), "nobody makes one", err)
}

// spoke is the cluster of a device, as its own administrator sees it.
func spoke(ctx context.Context, name string) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("SPOKE_KUBECONFIG"))
	check.Must("the kubeconfig of the spoke", err)
	there := connect(config)
	agent, err := there.operators.OperatorV1().Klusterlets().Get(ctx, "klusterlet", metav1.GetOptions{})
	check.Must("the Klusterlet", err)
	check.That(agent.Spec.ClusterName == name, "it is this cluster's", agent.Spec)
	check.That(agent.Spec.DeployOption.Mode == operatorv1.InstallModeSingleton, "it is one program", agent.Spec)
	check.That(meta.IsStatusConditionFalse(agent.Status.Conditions, operatorv1.ConditionHubConnectionDegraded), "it is connected", agent.Status)
	list, err := there.clusters.Discovery().ServerResourcesForGroupVersion("cluster.open-cluster-management.io/v1alpha1")
	check.Must("discovery of the spoke", err)
	check.That(len(list.APIResources) == 1 && list.APIResources[0].Name == "clusterclaims", "it is a managed cluster", list)
}

func (h hub) sets(ctx context.Context, name string) {
	sets := h.clusters.ClusterV1beta2().ManagedClusterSets()
	_, err := sets.Create(ctx, &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: "attic"}}, metav1.CreateOptions{})
	check.Must("a set", err)
	cluster, err := h.clusters.ClusterV1().ManagedClusters().Get(ctx, name, metav1.GetOptions{})
	check.Must("the cluster", err)
	cluster.Labels[setLabel] = "attic"
	_, err = h.clusters.ClusterV1().ManagedClusters().Update(ctx, cluster, metav1.UpdateOptions{})
	check.Must("to put it into the set", err)
	binding := &clusterv1beta2.ManagedClusterSetBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "attic", Namespace: "default"},
		Spec:       clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: "attic"},
	}
	_, err = h.clusters.ClusterV1beta2().ManagedClusterSetBindings("default").Create(ctx, binding, metav1.CreateOptions{})
	check.Must("to bind it", err)
	check.Eventually("the set has it", func() (bool, any) {
		set, err := sets.Get(ctx, "attic", metav1.GetOptions{})
		check.Must("the set", err)
		return meta.IsStatusConditionFalse(set.Status.Conditions, clusterv1beta2.ManagedClusterSetConditionEmpty), set.Status
	})
	all, err := h.clusters.ClusterV1().ManagedClusters().List(ctx, metav1.ListOptions{LabelSelector: setLabel + "=attic"})
	check.Must("clusters of the set", err)
	check.That(len(all.Items) == 1 && all.Items[0].Status.Version.Kubernetes != "", "it is listed with its version", all.Items)
	cpu := all.Items[0].Status.Capacity[clusterv1.ResourceCPU]
	check.That(!cpu.IsZero(), "and its capacity", all.Items[0].Status)
	bound, err := h.clusters.ClusterV1beta2().ManagedClusterSetBindings(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=attic"})
	check.Must("its bindings", err)
	check.That(len(bound.Items) == 1, "it is bound once", bound.Items)
}

func (h hub) placement(ctx context.Context, name string) {
	wanted := &clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: "default"},
		Spec: clusterv1beta1.PlacementSpec{
			ClusterSets: []string{"attic"}, NumberOfClusters: new(int32),
			PrioritizerPolicy: clusterv1beta1.PrioritizerPolicy{
				Mode: clusterv1beta1.PrioritizerPolicyModeAdditive,
				Configurations: []clusterv1beta1.PrioritizerConfig{{
					ScoreCoordinate: &clusterv1beta1.ScoreCoordinate{Type: clusterv1beta1.ScoreCoordinateTypeBuiltIn, BuiltIn: "Steady"},
					Weight:          3,
				}},
			},
		},
	}
	*wanted.Spec.NumberOfClusters = 1
	_, err := h.clusters.ClusterV1beta1().Placements("default").Create(ctx, wanted, metav1.CreateOptions{})
	check.Must("a placement", err)
	check.Eventually("it chooses the cluster", func() (bool, any) {
		list, err := h.clusters.ClusterV1beta1().PlacementDecisions("default").List(ctx, metav1.ListOptions{LabelSelector: clusterv1beta1.PlacementLabel + "=one"})
		check.Must("decisions", err)
		return len(list.Items) == 1 && len(list.Items[0].Status.Decisions) == 1 &&
			list.Items[0].Status.Decisions[0].ClusterName == name, list.Items
	})
}

func manifest(value string) workv1.Manifest {
	object := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: "site", Namespace: "default"},
		Data:       map[string]string{"value": value},
	}
	return workv1.Manifest{RawExtension: runtime.RawExtension{Object: object}}
}

func (h hub) work(ctx context.Context, name string) {
	own := h.works.WorkV1().ManifestWorks(name)
	wanted := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: "site", Namespace: name}}
	wanted.Spec.Workload.Manifests = []workv1.Manifest{manifest("1")}
	made, err := own.Create(ctx, wanted, metav1.CreateOptions{})
	check.Must("a work", err)
	h.applied(ctx, name, "site")
	made, err = own.Get(ctx, made.Name, metav1.GetOptions{})
	check.Must("the work", err)
	made.Spec.Workload.Manifests = []workv1.Manifest{manifest("2")}
	_, err = own.Update(ctx, made, metav1.UpdateOptions{})
	check.Must("to overwrite it", err)
	list, err := own.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=site"})
	check.Must("works of the cluster", err)
	check.That(len(list.Items) == 1, "it is listed", list.Items)

	set := &workv1alpha1.ManifestWorkReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "all", Namespace: "default"}}
	other := manifest("3")
	other.Object.(*corev1.ConfigMap).Name = "all"
	set.Spec.ManifestWorkTemplate.Workload.Manifests = []workv1.Manifest{other}
	set.Spec.PlacementRefs = []workv1alpha1.LocalPlacementReference{{Name: "one"}}
	_, err = h.works.WorkV1alpha1().ManifestWorkReplicaSets("default").Create(ctx, set, metav1.CreateOptions{})
	check.Must("a work for all that are chosen", err)
	check.Eventually("it is on the cluster", func() (bool, any) {
		set, err := h.works.WorkV1alpha1().ManifestWorkReplicaSets("default").Get(ctx, "all", metav1.GetOptions{})
		check.Must("the set of works", err)
		return set.Status.Summary.Total == 1 && set.Status.Summary.Applied == 1, set.Status
	})
}

func (h hub) applied(ctx context.Context, cluster, name string) {
	check.Eventually("the work is applied", func() (bool, any) {
		now, err := h.works.WorkV1().ManifestWorks(cluster).Get(ctx, name, metav1.GetOptions{})
		check.Must("the work", err)
		all := now.Status.Conditions
		return meta.IsStatusConditionTrue(all, workv1.WorkApplied) && meta.IsStatusConditionTrue(all, workv1.WorkAvailable), all
	})
}

// addon is made of a template, enabled on the cluster by hand, and disabled.
func (h hub) addon(ctx context.Context, name string) {
	all := h.addons.AddonV1alpha1()
	template := &addonv1alpha1.AddOnTemplate{ObjectMeta: metav1.ObjectMeta{Name: "web-1"}}
	template.Spec.AddonName = "web"
	content := manifest("{{CLUSTER_NAME}}")
	content.Object.(*corev1.ConfigMap).Name = "web"
	template.Spec.AgentSpec.Workload.Manifests = []workv1.Manifest{content}
	template.Spec.Registration = []addonv1alpha1.RegistrationSpec{}
	catalogue := &addonv1alpha1.ClusterManagementAddOn{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"addon.open-cluster-management.io/lifecycle": "addon-manager"}},
	}
	catalogue.Spec.InstallStrategy.Type = addonv1alpha1.AddonInstallStrategyManual
	catalogue.Spec.SupportedConfigs = []addonv1alpha1.ConfigMeta{{
		ConfigGroupResource: addonv1alpha1.ConfigGroupResource{Group: addonv1alpha1.GroupVersion.Group, Resource: "addontemplates"},
		DefaultConfig:       &addonv1alpha1.ConfigReferent{Name: "web-1"},
	}}
	_, err := all.ClusterManagementAddOns().Create(ctx, catalogue, metav1.CreateOptions{})
	check.Must("an add-on", err)
	_, err = all.AddOnTemplates().Create(ctx, template, metav1.CreateOptions{})
	check.Must("its template", err)
	enabled := &addonv1alpha1.ManagedClusterAddOn{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: name}}
	enabled.Spec.InstallNamespace = "default"
	_, err = all.ManagedClusterAddOns(name).Create(ctx, enabled, metav1.CreateOptions{})
	check.Must("to enable it", err)
	check.Eventually("it is available", func() (bool, any) {
		list, err := all.ManagedClusterAddOns(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		check.Must("add-ons", err)
		return len(list.Items) == 1 && meta.IsStatusConditionTrue(list.Items[0].Status.Conditions, "Available") &&
			meta.IsStatusConditionTrue(list.Items[0].Status.Conditions, "ManifestApplied"), list.Items
	})
	own, err := h.works.WorkV1().ManifestWorks(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: addOnLabel})
	check.Must("works of add-ons", err)
	check.That(len(own.Items) == 1 && own.Items[0].Labels[addOnLabel] == "web", "it has one", own.Items)
	check.Must("to disable it", all.ManagedClusterAddOns(name).Delete(ctx, "web", metav1.DeleteOptions{}))
	check.Eventually("it goes", func() (bool, any) {
		_, err := all.ManagedClusterAddOns(name).Get(ctx, "web", metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
}

// remove deletes what was made, and waits for the end of the set as its command does.
func (h hub) remove(ctx context.Context) {
	check.Must("to delete the set of works", h.works.WorkV1alpha1().ManifestWorkReplicaSets("default").Delete(ctx, "all", metav1.DeleteOptions{}))
	check.Must("to unbind", h.clusters.ClusterV1beta2().ManagedClusterSetBindings("default").Delete(ctx, "attic", metav1.DeleteOptions{}))
	sets := h.clusters.ClusterV1beta2().ManagedClusterSets()
	events, err := sets.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=attic"})
	check.Must("a watch", err)
	defer events.Stop()
	check.Must("to delete the set", sets.Delete(ctx, "attic", metav1.DeleteOptions{}))
	for event := range events.ResultChan() {
		if event.Type == watch.Deleted {
			return
		}
	}
	check.Fail("the watch has ended before the set")
}
