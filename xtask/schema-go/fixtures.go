package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	extensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// Objects with every field filled in, from the test data of k8s.io/api.
var filled = []string{
	"admissionregistration.k8s.io.v1.MutatingAdmissionPolicy",
	"admissionregistration.k8s.io.v1.MutatingAdmissionPolicyBinding",
	"admissionregistration.k8s.io.v1.MutatingWebhookConfiguration",
	"admissionregistration.k8s.io.v1.ValidatingAdmissionPolicy",
	"admissionregistration.k8s.io.v1.ValidatingAdmissionPolicyBinding",
	"admissionregistration.k8s.io.v1.ValidatingWebhookConfiguration", "apps.v1.ControllerRevision",
	"apps.v1.DaemonSet", "apps.v1.Deployment", "apps.v1.ReplicaSet", "apps.v1.StatefulSet",
	"authentication.k8s.io.v1.TokenRequest", "autoscaling.v1.HorizontalPodAutoscaler",
	"autoscaling.v1.Scale", "autoscaling.v2.HorizontalPodAutoscaler", "batch.v1.CronJob", "batch.v1.Job",
	"certificates.k8s.io.v1.CertificateSigningRequest", "coordination.k8s.io.v1.Lease", "core.v1.Binding",
	"core.v1.ConfigMap", "core.v1.Endpoints", "core.v1.Event", "core.v1.LimitRange", "core.v1.Namespace",
	"core.v1.Node", "core.v1.PersistentVolume", "core.v1.PersistentVolumeClaim", "core.v1.Pod",
	"core.v1.PodTemplate", "core.v1.ReplicationController", "core.v1.ResourceQuota", "core.v1.Secret",
	"core.v1.Service", "core.v1.ServiceAccount", "discovery.k8s.io.v1.EndpointSlice",
	"events.k8s.io.v1.Event", "flowcontrol.apiserver.k8s.io.v1.FlowSchema",
	"flowcontrol.apiserver.k8s.io.v1.PriorityLevelConfiguration", "networking.k8s.io.v1.IPAddress",
	"networking.k8s.io.v1.Ingress", "networking.k8s.io.v1.IngressClass",
	"networking.k8s.io.v1.NetworkPolicy", "networking.k8s.io.v1.ServiceCIDR",
	"node.k8s.io.v1.RuntimeClass", "policy.v1.Eviction", "policy.v1.PodDisruptionBudget",
	"resource.k8s.io.v1.DeviceClass", "resource.k8s.io.v1.ResourceClaim",
	"resource.k8s.io.v1.ResourceClaimTemplate", "resource.k8s.io.v1.ResourceSlice",
	"scheduling.k8s.io.v1.PriorityClass", "storage.k8s.io.v1.CSIDriver", "storage.k8s.io.v1.CSINode",
	"storage.k8s.io.v1.CSIStorageCapacity", "storage.k8s.io.v1.StorageClass",
	"storage.k8s.io.v1.VolumeAttachment", "storage.k8s.io.v1.VolumeAttributesClass",
}

var quantities = []string{
	"0", "0.5", "1", "1000m", "1024", "1024Ki", "1Mi", "1.5Gi", "0.1Gi", "1e3", "1E3", "1E", "100k", "0.1m", "1n", "1500m",
	"12345678901234567890", "1.0", "+1", "-1", "-0.5", "-1Ki", "1000Ki", "2048", "1u", "0.001n", "3.14159", "1e-3",
	"100000k", "1.25Ki", "1000000", "1Ti", "1024Gi", "0.5Mi", "00.5", "1.", ".5", "100M", "1e9", "123456789.123456789", "9223372036854775807",
	"10P", "8Ei", "0Ki", "0m", "1.1Ei", "1e18", "1e20", "5e-1", "-0", "1_0", "abc", "", "1 Ki", "1KiB", "0x10", "1.2.3", "--1", "1e", "Ki",
}

func writeFixtures(m *modules, dir string) error {
	known, err := knownTypes()
	if err != nil {
		return err
	}
	for _, name := range filled {
		from := filepath.Join(m.dir[modAPI], "testdata/HEAD", name)
		text, err := os.ReadFile(from + ".json")
		if err != nil {
			return err
		}
		var small bytes.Buffer
		if err := json.Compact(&small, text); err != nil {
			return err
		}
		raw, err := os.ReadFile(from + ".pb")
		if err != nil {
			return err
		}
		if err := write(dir, "filled."+name+".json", small.Bytes()); err != nil {
			return err
		}
		if err := write(dir, "filled."+name+".pb", raw); err != nil {
			return err
		}
	}
	inputs, err := filepath.Glob(filepath.Join(dir, "*.in.json"))
	if err != nil {
		return err
	}
	for _, input := range inputs {
		if err := roundTrip(known, input); err != nil {
			return fmt.Errorf("%s: %w", input, err)
		}
	}
	return nil
}

// The types of client-go, and definitions of custom resources.
func knownTypes() (*runtime.Scheme, error) {
	known := runtime.NewScheme()
	if err := scheme.AddToScheme(known); err != nil {
		return nil, err
	}
	return known, extensionsv1.AddToScheme(known)
}

// One line per text: what Go prints for it, or ! when it is no quantity.
func writeQuantities(path string) error {
	var out strings.Builder
	for _, text := range quantities {
		parsed, err := resource.ParseQuantity(text)
		if err != nil {
			fmt.Fprintf(&out, "%s=!\n", text)
		} else {
			fmt.Fprintf(&out, "%s=%s\n", text, parsed.String())
		}
	}
	return os.WriteFile(path, []byte(out.String()), 0o644)
}

// What Go makes of strategic merge patches: BASE.in.json holds cases, BASE.json gets results.
func writePatches(base string) error {
	text, err := os.ReadFile(base + ".in.json")
	if err != nil {
		return err
	}
	var cases []struct {
		Case, APIVersion, Kind string
		Original, Patch        json.RawMessage
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		return err
	}
	type answer struct {
		Case   string          `json:"case"`
		Result json.RawMessage `json:"result,omitempty"`
		Error  string          `json:"error,omitempty"`
	}
	answers := []answer{}
	for _, one := range cases {
		object, err := scheme.Scheme.New(schema.FromAPIVersionAndKind(one.APIVersion, one.Kind))
		if err != nil {
			return err
		}
		result, err := strategicpatch.StrategicMergePatch(one.Original, one.Patch, object)
		if err != nil {
			answers = append(answers, answer{Case: one.Case, Error: err.Error()})
		} else {
			answers = append(answers, answer{Case: one.Case, Result: result})
		}
	}
	out, err := json.MarshalIndent(answers, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(base+".json", append(out, '\n'), 0o644)
}

// What Go makes of an object: as JSON, as protobuf, and as one frame of a watch.
func roundTrip(known *runtime.Scheme, input string) error {
	binary := protobuf.NewSerializer(known, known)
	text, err := os.ReadFile(input)
	if err != nil {
		return err
	}
	object, _, err := serializer.NewCodecFactory(known).UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		return err
	}
	base := strings.TrimSuffix(input, ".in.json")
	out, err := json.Marshal(object)
	if err != nil {
		return err
	}
	if err := os.WriteFile(base+".json", append(out, '\n'), 0o644); err != nil {
		return err
	}
	var raw bytes.Buffer
	if err := binary.Encode(object, &raw); err != nil {
		return err
	}
	if err := os.WriteFile(base+".pb", raw.Bytes(), 0o644); err != nil {
		return err
	}
	event := &metav1.WatchEvent{
		Type:   string(watch.Added),
		Object: runtime.RawExtension{Raw: raw.Bytes()},
	}
	var frame bytes.Buffer
	stream := protobuf.LengthDelimitedFramer.NewFrameWriter(&frame)
	if err := protobuf.NewRawSerializer(known, known).Encode(event, stream); err != nil {
		return err
	}
	return os.WriteFile(base+".watch", frame.Bytes(), 0o644)
}

func write(dir, name string, content []byte) error {
	return os.WriteFile(filepath.Join(dir, name), content, 0o644)
}
