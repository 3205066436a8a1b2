package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"

	extensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	addonv1alpha1 "open-cluster-management.io/api/addon/v1alpha1"
	addonv1beta1 "open-cluster-management.io/api/addon/v1beta1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/yaml"
)

// The group versions whose kinds are in the table.
var groupVersions = []schema.GroupVersion{
	{Version: "v1"},
	{Group: "admissionregistration.k8s.io", Version: "v1"},
	{Group: "apiregistration.k8s.io", Version: "v1"},
	{Group: "apps", Version: "v1"},
	{Group: "authentication.k8s.io", Version: "v1"},
	{Group: "authorization.k8s.io", Version: "v1"},
	{Group: "autoscaling", Version: "v1"},
	{Group: "autoscaling", Version: "v2"},
	{Group: "batch", Version: "v1"},
	{Group: "certificates.k8s.io", Version: "v1"},
	{Group: "coordination.k8s.io", Version: "v1"},
	{Group: "discovery.k8s.io", Version: "v1"},
	{Group: "events.k8s.io", Version: "v1"},
	{Group: "flowcontrol.apiserver.k8s.io", Version: "v1"},
	{Group: "metrics.k8s.io", Version: "v1beta1"},
	{Group: "networking.k8s.io", Version: "v1"},
	{Group: "node.k8s.io", Version: "v1"},
	{Group: "policy", Version: "v1"},
	{Group: "rbac.authorization.k8s.io", Version: "v1"},
	{Group: "resource.k8s.io", Version: "v1"},
	{Group: "scheduling.k8s.io", Version: "v1"},
	{Group: "storage.k8s.io", Version: "v1"},
}

// Kinds of Open Cluster Management, and where their CRDs lie.
var ocmKinds = []struct {
	version      metav1.GroupVersion
	object, list any
	crd          string
}{
	{addonv1alpha1.GroupVersion, addonv1alpha1.AddOnDeploymentConfig{}, addonv1alpha1.AddOnDeploymentConfigList{}, "addondeploymentconfigs"},
	{addonv1alpha1.GroupVersion, addonv1alpha1.AddOnTemplate{}, addonv1alpha1.AddOnTemplateList{}, "addontemplates"},
	{addonv1alpha1.GroupVersion, addonv1alpha1.ClusterManagementAddOn{}, addonv1alpha1.ClusterManagementAddOnList{}, "clustermanagementaddons"},
	{addonv1alpha1.GroupVersion, addonv1alpha1.ManagedClusterAddOn{}, addonv1alpha1.ManagedClusterAddOnList{}, "managedclusteraddons"},
	{addonv1beta1.GroupVersion, addonv1beta1.AddOnDeploymentConfig{}, addonv1beta1.AddOnDeploymentConfigList{}, "addondeploymentconfigs"},
	{addonv1beta1.GroupVersion, addonv1beta1.ClusterManagementAddOn{}, addonv1beta1.ClusterManagementAddOnList{}, "clustermanagementaddons"},
	{addonv1beta1.GroupVersion, addonv1beta1.ManagedClusterAddOn{}, addonv1beta1.ManagedClusterAddOnList{}, "managedclusteraddons"},
	{clusterv1.GroupVersion, clusterv1.ManagedCluster{}, clusterv1.ManagedClusterList{}, "managedclusters"},
	{clusterv1alpha1.GroupVersion, clusterv1alpha1.AddOnPlacementScore{}, clusterv1alpha1.AddOnPlacementScoreList{}, "addonplacementscores"},
	{clusterv1alpha1.GroupVersion, clusterv1alpha1.ClusterClaim{}, clusterv1alpha1.ClusterClaimList{}, "clusterclaims"},
	{clusterv1beta1.GroupVersion, clusterv1beta1.Placement{}, clusterv1beta1.PlacementList{}, "placements"},
	{clusterv1beta1.GroupVersion, clusterv1beta1.PlacementDecision{}, clusterv1beta1.PlacementDecisionList{}, "placementdecisions"},
	{clusterv1beta2.GroupVersion, clusterv1beta2.ManagedClusterSet{}, clusterv1beta2.ManagedClusterSetList{}, "managedclustersets"},
	{clusterv1beta2.GroupVersion, clusterv1beta2.ManagedClusterSetBinding{}, clusterv1beta2.ManagedClusterSetBindingList{}, "managedclustersetbindings"},
	{workv1.GroupVersion, workv1.AppliedManifestWork{}, workv1.AppliedManifestWorkList{}, "appliedmanifestworks"},
	{workv1.GroupVersion, workv1.ManifestWork{}, workv1.ManifestWorkList{}, "manifestworks"},
	{workv1alpha1.GroupVersion, workv1alpha1.ManifestWorkReplicaSet{}, workv1alpha1.ManifestWorkReplicaSetList{}, "manifestworkreplicasets"},
}

// Kinds of meta/v1; the scheme repeats some in every group version.
var metaKinds = map[string]any{
	"APIGroup":                  metav1.APIGroup{},
	"APIGroupList":              metav1.APIGroupList{},
	"APIResourceList":           metav1.APIResourceList{},
	"APIVersions":               metav1.APIVersions{},
	"CreateOptions":             metav1.CreateOptions{},
	"DeleteOptions":             metav1.DeleteOptions{},
	"GetOptions":                metav1.GetOptions{},
	"List":                      metav1.List{},
	"ListOptions":               metav1.ListOptions{},
	"PartialObjectMetadata":     metav1.PartialObjectMetadata{},
	"PartialObjectMetadataList": metav1.PartialObjectMetadataList{},
	"PatchOptions":              metav1.PatchOptions{},
	"Status":                    metav1.Status{},
	"UpdateOptions":             metav1.UpdateOptions{},
	"WatchEvent":                metav1.WatchEvent{},
}

func kinds() (map[schema.GroupVersionKind]reflect.Type, error) {
	out := map[schema.GroupVersionKind]reflect.Type{}
	known := scheme.Scheme.AllKnownTypes()
	others := runtime.NewScheme()
	if err := apiregistrationv1.AddToScheme(others); err != nil {
		return nil, err
	}
	if err := metricsv1beta1.AddToScheme(others); err != nil {
		return nil, err
	}
	maps.Copy(known, others.AllKnownTypes())
	for gvk, t := range known {
		if _, meta := metaKinds[gvk.Kind]; meta || !slices.Contains(groupVersions, gvk.GroupVersion()) {
			continue
		}
		if strings.HasSuffix(gvk.Kind, "Options") && gvk.Group != "" {
			continue
		}
		out[gvk] = t
	}
	for kind, sample := range metaKinds {
		out[schema.GroupVersionKind{Group: "meta.k8s.io", Version: "v1", Kind: kind}] = reflect.TypeOf(sample)
	}
	extensions := extensionsv1.SchemeGroupVersion
	out[extensions.WithKind("CustomResourceDefinition")] = reflect.TypeOf(extensionsv1.CustomResourceDefinition{})
	out[extensions.WithKind("CustomResourceDefinitionList")] = reflect.TypeOf(extensionsv1.CustomResourceDefinitionList{})
	for _, one := range ocmKinds {
		for _, t := range []reflect.Type{reflect.TypeOf(one.object), reflect.TypeOf(one.list)} {
			out[schema.GroupVersionKind{Group: one.version.Group, Version: one.version.Version, Kind: t.Name()}] = t
		}
	}
	return out, nil
}

func writeTable(m *modules) (string, error) {
	roots, err := kinds()
	if err != nil {
		return "", err
	}
	w := &walker{types: map[string]*goType{}}
	gvks := map[string][]string{}
	for gvk, t := range roots {
		name, err := w.walk(t)
		if err != nil {
			return "", err
		}
		group := gvk.Group
		if group == "" {
			group = "-"
		}
		gvks[name] = append(gvks[name], fmt.Sprintf("G %s %s %s\n", group, gvk.Version, gvk.Kind))
	}
	proto, err := readProto(m)
	if err != nil {
		return "", err
	}
	openapi, err := readOpenAPI(m)
	if err != nil {
		return "", err
	}
	merge, err := readMerge(m)
	if err != nil {
		return "", err
	}
	for name, t := range w.types {
		if openapi[name] == nil && strings.HasPrefix(name, "io.k8s.metrics.") {
			openapi[name] = requiredByGo(t)
		}
	}
	for _, one := range ocmKinds {
		if err := readCRD(m, one.version, reflect.TypeOf(one.object), one.crd, w.types, openapi); err != nil {
			return "", err
		}
	}
	inherit(w.types, openapi, merge)
	var out strings.Builder
	out.WriteString("freewheel-schema 1\n")
	for _, name := range moduleNames {
		fmt.Fprintf(&out, "from %s %s\n", name, m.version[name])
	}
	for _, name := range slices.Sorted(maps.Keys(w.types)) {
		t := w.types[name]
		if err := proto.check(t); err != nil {
			return "", err
		}
		writeType(&out, t, openapi[name], merge[name], gvks[name])
	}
	return out.String(), nil
}

// Types of which no document tells: what Go always writes is required, as openapi-gen has it.
func requiredByGo(t *goType) *schemaFacts {
	facts := &schemaFacts{Properties: map[string]*property{}}
	for _, field := range t.fields {
		facts.Properties[field.name] = &property{}
		if !field.omitEmpty {
			facts.Required = append(facts.Required, field.name)
		}
	}
	return facts
}

// A struct that is only ever laid flat into another has no schema of its own: what is known of its
// fields is told under the owner's name.
func inherit(types map[string]*goType, openapi map[string]*schemaFacts, merge map[string]*mergeType) {
	for _, owner := range slices.Sorted(maps.Keys(types)) {
		for _, field := range types[owner].fields {
			inner, ok := strings.CutPrefix(field.typ, "@")
			if field.name != "." || !ok {
				continue
			}
			if openapi[inner] == nil {
				openapi[inner] = openapi[owner]
			}
			if merge[inner] == nil {
				merge[inner] = merge[owner]
			}
		}
	}
}

func writeType(out *strings.Builder, t *goType, api *schemaFacts, merge *mergeType, gvks []string) {
	out.WriteString("T " + t.name)
	for _, flag := range []struct {
		on   bool
		text string
	}{{t.proto, " P"}, {merge.atomic() || (api != nil && api.MapType == "atomic"), " A"}, {t.crd, " C"}} {
		if flag.on {
			out.WriteString(flag.text)
		}
	}
	out.WriteString("\n")
	sort.Strings(gvks)
	out.WriteString(strings.Join(gvks, ""))
	// In Go's order, which is the order of the JSON that people know.
	for _, field := range t.fields {
		out.WriteString("F " + field.name + " " + field.typ)
		for _, part := range fieldAttributes(t.name, field, api, merge) {
			out.WriteString(" " + part)
		}
		out.WriteString("\n")
	}
}

func fieldAttributes(owner string, field goField, api *schemaFacts, merge *mergeType) []string {
	out := []string{}
	if field.omitEmpty {
		out = append(out, "e")
	}
	if field.omitZero {
		out = append(out, "z")
	}
	if field.number != 0 {
		out = append(out, fmt.Sprintf("p=%d", field.number))
	}
	if field.strategy != "" {
		out = append(out, "s="+field.strategy)
	}
	if field.mergeKey != "" {
		out = append(out, "y="+field.mergeKey)
	}
	out = append(out, api.attributes(field.name)...)
	fromAPI := api.listAttributes(field.name)
	if fromMerge, known := merge.attributes(field.name); known {
		if fmt.Sprint(fromMerge) != fmt.Sprint(fromAPI) && len(fromMerge)+len(fromAPI) > 0 {
			log.Printf("note: %s.%s: structured merge says %v, OpenAPI %v", owner, field.name, fromMerge, fromAPI)
		}
		out = append(out, fromMerge...)
	} else {
		out = append(out, fromAPI...)
	}
	if api != nil && api.Properties[field.name] != nil && len(api.Properties[field.name].Default) > 0 {
		var compact bytes.Buffer
		if json.Compact(&compact, api.Properties[field.name].Default) == nil {
			out = append(out, "d="+compact.String())
		}
	}
	return out
}

// Facts of a kind from its CRD, told as if OpenAPI had told them.
func readCRD(m *modules, version metav1.GroupVersion, kind reflect.Type, plural string, types map[string]*goType, openapi map[string]*schemaFacts) error {
	group, _, _ := strings.Cut(version.Group, ".")
	files, err := filepath.Glob(filepath.Join(m.dir[modOCM], group, version.Version, "*open-cluster-management.io_"+plural+".crd.yaml"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("the CRD of %s: %v %w", kind.Name(), files, err)
	}
	name, err := modelName(kind)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema json.RawMessage `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return err
	}
	for _, one := range crd.Spec.Versions {
		if one.Name == version.Version {
			return graft(name, one.Schema.OpenAPIV3Schema, types, openapi)
		}
	}
	return fmt.Errorf("%s has no %s", files[0], version.Version)
}

// Walks the CRD's nested schema and the Go types in step.
func graft(name string, raw json.RawMessage, types map[string]*goType, openapi map[string]*schemaFacts) error {
	t := types[name]
	if t == nil || !t.crd {
		return nil
	}
	facts := &schemaFacts{}
	if err := json.Unmarshal(raw, facts); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	openapi[name] = facts
	var nested struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(raw, &nested); err != nil {
		return err
	}
	for _, field := range t.fields {
		inner := nested.Properties[field.name]
		typ := strings.TrimPrefix(field.typ, "*")
		if rest, ok := strings.CutPrefix(typ, "[]"); ok {
			var list struct {
				Items json.RawMessage `json:"items"`
			}
			if len(inner) > 0 && json.Unmarshal(inner, &list) == nil {
				inner = list.Items
			}
			typ = rest
		}
		if rest, ok := strings.CutPrefix(typ, "@"); ok && len(inner) > 0 {
			if err := graft(rest, inner, types, openapi); err != nil {
				return err
			}
		}
	}
	return nil
}
