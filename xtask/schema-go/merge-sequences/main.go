// Writes random sequences of writes, and what apimachinery's field manager makes of them, one sequence a line.
//
//	merge-sequences -openapi DIR -widget FILE -from 0 -to 100
//	merge-sequences -openapi DIR -widget FILE -from 0 -to 100 -shapes
//
// DIR is api/openapi-spec/v3 of k8s.io/kubernetes; what FILE holds is a structural schema. A seed is a sequence: the same one on every
// machine. With -shapes, the kind of each has a random schema of its own, which is in its line.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// One sequence.
type sequence struct {
	Seed       int64  `json:"seed"`
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// What the kind is, where it is one of this sequence alone.
	Schema map[string]any `json:"schema,omitempty"`
	Steps  []step         `json:"steps"`
}

// One write, and what came of it.
type step struct {
	Apply       bool   `json:"apply,omitempty"`
	Force       bool   `json:"force,omitempty"`
	Manager     string `json:"manager"`
	Subresource string `json:"subresource,omitempty"`
	Body        any    `json:"body"`
	Error       string `json:"error,omitempty"`
	Object      any    `json:"object,omitempty"`
}

var kinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Service"},
	{Version: "v1", Kind: "Pod"},
	{Version: "v1", Kind: "ConfigMap"},
	{Version: "v1", Kind: "Node"},
	{Version: "v1", Kind: "ServiceAccount"},
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "apps", Version: "v1", Kind: "ControllerRevision"},
	{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress"},
	{Group: "example.com", Version: "v1", Kind: "Widget"},
	{Group: "example.com", Version: "v1", Kind: "Free"},
}

var documents = []string{"api__v1", "apis__apps__v1", "apis__networking.k8s.io__v1"}

// All that field managers are made of.
type world struct {
	builtIn, own managedfields.TypeConverter
	widget       map[string]any
	// The types that all objects have.
	models map[string]*spec.Schema
}

func newWorld(dir, widgetFile string) (*world, error) {
	models := map[string]*spec.Schema{}
	for _, name := range documents {
		text, err := os.ReadFile(filepath.Join(dir, name+"_openapi.json"))
		if err != nil {
			return nil, err
		}
		var document struct {
			Components struct{ Schemas map[string]*spec.Schema }
		}
		if err := json.Unmarshal(text, &document); err != nil {
			return nil, err
		}
		for name, one := range document.Components.Schemas {
			models[name] = one
		}
	}
	builtIn, err := managedfields.NewTypeConverter(models, false)
	if err != nil {
		return nil, err
	}
	out := &world{builtIn: builtIn}
	widget, err := os.ReadFile(widgetFile)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(widget, &out.widget); err != nil {
		return nil, err
	}
	out.models = models
	out.own, err = out.converter("Widget", out.widget)
	out.models = ofMetadata(models)
	return out, err
}

// The types that metadata is made of, so that a converter with a schema of its own is made in no time.
func ofMetadata(models map[string]*spec.Schema) map[string]*spec.Schema {
	out := map[string]*spec.Schema{}
	for name, one := range models {
		if strings.HasPrefix(name, "io.k8s.apimachinery.pkg.apis.meta.v1.") {
			out[name] = one
		}
	}
	return out
}

// Objects of kinds of their own are what they are.
type unconverted struct{}

func (unconverted) Convert(in, out, context any) error { panic("never asked") }
func (unconverted) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}
func (unconverted) ConvertFieldLabel(_ schema.GroupVersionKind, _, _ string) (string, string, error) {
	panic("never asked")
}
func (unconverted) Default(runtime.Object) {}
func (unconverted) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(gvk)
	return out, nil
}

// A kind, and its field manager for each door.
type player struct {
	*generator
	gvk   schema.GroupVersionKind
	isOwn bool
	world *world
	// The schema of a kind of its own, and what upstream makes of it.
	schema  map[string]any
	types   managedfields.TypeConverter
	doors   map[string]*managedfields.FieldManager
	live    runtime.Object
	created bool
}

func newPlayer(w *world, g *generator, gvk schema.GroupVersionKind) *player {
	p := &player{generator: g, gvk: gvk, world: w, isOwn: gvk.Group == "example.com", schema: w.widget, types: w.own}
	if gvk.Kind == "Shape" {
		var err error
		p.schema = g.shape()
		if p.types, err = w.converter(gvk.Kind, p.schema); err != nil {
			panic(err)
		}
	}
	p.doors = map[string]*managedfields.FieldManager{}
	version := fieldpath.APIVersion(gvk.GroupVersion().String())
	for door, reset := range map[string]string{"": "status", "status": "spec"} {
		fields := fieldpath.NewExcludeFilterSetMap(map[fieldpath.APIVersion]*fieldpath.Set{
			version: fieldpath.NewSet(fieldpath.MakePathOrDie(reset)),
		})
		var err error
		none := unconverted{}
		switch {
		case gvk.Kind == "Free":
			types := managedfields.NewDeducedTypeConverter()
			p.doors[door], err = managedfields.NewDefaultCRDFieldManager(types, none, none, none, gvk, gvk.GroupVersion(), door, fields)
		case p.isOwn:
			p.doors[door], err = managedfields.NewDefaultCRDFieldManager(p.types, none, none, none, gvk, gvk.GroupVersion(), door, fields)
		default:
			p.doors[door], err = managedfields.NewDefaultFieldManager(w.builtIn, scheme.Scheme, none, scheme.Scheme, gvk, gvk.GroupVersion(), door, fields)
		}
		if err != nil {
			panic(err)
		}
	}
	p.live = p.empty()
	return p
}

func (p *player) empty() runtime.Object {
	if p.isOwn {
		out, _ := unconverted{}.New(p.gvk)
		return out
	}
	out, err := scheme.Scheme.New(p.gvk)
	if err != nil {
		panic(err)
	}
	return out
}

// A whole object.
func (p *player) base() map[string]any {
	var value any
	switch {
	case p.gvk.Kind == "Free":
		value = map[string]any{"spec": p.free(4), "status": p.free(2)}
	case p.isOwn:
		value = p.structural(p.schema, 6)
	default:
		value = p.typed(reflect.TypeOf(p.empty()).Elem(), 7)
	}
	out := value.(map[string]any)
	if p.isOwn {
		out["metadata"] = p.metadata(3)
	}
	return out
}

func (p *player) named(value any) map[string]any {
	out := asJSON(value)
	out["apiVersion"], out["kind"] = p.gvk.GroupVersion().String(), p.gvk.Kind
	metadata, ok := out["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
		out["metadata"] = metadata
	}
	metadata["name"] = "x"
	// No bytes at all are null to Go until they are stored, and empty from then on; so are texts of objects without a
	// type of their own, until somebody asks for them.
	withoutNulls(out["binaryData"])
	if p.isOwn {
		withoutNulls(metadata["labels"])
		withoutNulls(metadata["annotations"])
	}
	return out
}

func withoutNulls(value any) {
	values, _ := value.(map[string]any)
	for key, value := range values {
		if value == nil {
			delete(values, key)
		}
	}
}

// An object as Go holds it once it was stored in protobuf, which has no empty lists.
func (p *player) object(value map[string]any) (runtime.Object, error) {
	if p.isOwn {
		return &unstructured.Unstructured{Object: value}, nil
	}
	out := p.empty()
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(value, out)
	metadata, _ := meta.Accessor(out)
	owners := metadata.GetManagedFields()
	forgetEmpty(reflect.ValueOf(out).Elem())
	// Here, an empty list says something.
	metadata.SetManagedFields(owners)
	out.GetObjectKind().SetGroupVersionKind(p.gvk)
	return out, err
}

// An object whose quantities are written as Go itself writes them: of others it remembers that they were not, and takes
// lists of the same ones for different.
func (p *player) canonical(object runtime.Object) (runtime.Object, error) {
	if p.isOwn {
		return object, nil
	}
	out, err := p.object(shown(object))
	if err != nil {
		return nil, err
	}
	said, _ := meta.Accessor(object)
	written, _ := meta.Accessor(out)
	// Here, an empty list says something.
	written.SetManagedFields(said.GetManagedFields())
	return out, nil
}

// Makes empty lists and maps none, wherever they are.
func forgetEmpty(value reflect.Value) {
	switch value.Kind() {
	case reflect.Pointer:
		if !value.IsNil() {
			forgetEmpty(value.Elem())
		}
	case reflect.Struct:
		for i := range value.NumField() {
			if value.Type().Field(i).IsExported() {
				forgetEmpty(value.Field(i))
			}
		}
	case reflect.Slice, reflect.Map:
		if value.Len() == 0 {
			value.SetZero()
			return
		}
		if value.Kind() == reflect.Slice {
			for i := range value.Len() {
				forgetEmpty(value.Index(i))
			}
		}
	}
}

func shown(object runtime.Object) map[string]any {
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		panic(err)
	}
	return asJSON(out)
}

func (p *player) play(number int, bases []map[string]any) (step, bool) {
	managers := []string{"kubectl", "m1", "m2"}
	if p.chance(0.1) {
		managers = []string{"m3", "m4", "m5", "m6", "m7", "m8", "m9", "m10", "m11", "m12", "m13", "m14"}
	}
	out := step{Manager: managers[p.Intn(len(managers))], Apply: p.chance(0.6), Force: p.chance(0.3)}
	if p.created && p.chance(0.2) {
		out.Subresource = "status"
	}
	wanted := p.part(bases[p.Intn(len(bases))], 0.8)
	if p.chance(0.4) {
		wanted = p.mixed(wanted, p.part(bases[p.Intn(len(bases))], 0.6))
	}
	if p.gvk.Kind == "Shape" && p.chance(0.04) {
		wanted = map[string]any{}
	}
	body := p.named(wanted)
	var result runtime.Object
	var err error
	if out.Apply {
		out.Body = body
		result, err = p.doors[out.Subresource].Apply(p.live.DeepCopyObject(), &unstructured.Unstructured{Object: asJSON(body)}, out.Manager, out.Force)
	} else {
		out.Force = false
		if p.created && p.chance(0.5) {
			body = p.named(p.mixed(p.part(shown(p.live), 0.95), body))
		}
		p.owners(body)
		if p.chance(0.15) {
			metadata := body["metadata"].(map[string]any)
			last, _ := json.Marshal(p.named(p.part(bases[p.Intn(len(bases))], 0.8)))
			annotations, ok := metadata["annotations"].(map[string]any)
			if !ok {
				annotations = map[string]any{}
				metadata["annotations"] = annotations
			}
			annotations["kubectl.kubernetes.io/last-applied-configuration"] = string(last)
		}
		var next runtime.Object
		if next, err = p.object(body); err != nil {
			return out, false
		}
		if next, err = p.canonical(next); err != nil {
			return out, false
		}
		said := shown(next)
		if accessor, _ := meta.Accessor(next); accessor.GetManagedFields() != nil && len(accessor.GetManagedFields()) == 0 {
			said["metadata"].(map[string]any)["managedFields"] = []any{}
		}
		out.Body = said
		result, err = p.doors[out.Subresource].Update(p.live.DeepCopyObject(), next, out.Manager)
	}
	if err != nil {
		out.Error = err.Error()
		return out, true
	}
	p.keep(result, number)
	out.Object = shown(p.live)
	return out, true
}

// What an update says of owners.
func (p *player) owners(body map[string]any) {
	metadata := body["metadata"].(map[string]any)
	delete(metadata, "managedFields")
	accessor, err := meta.Accessor(p.live)
	if err != nil {
		panic(err)
	}
	live, ok := shown(p.live)["metadata"].(map[string]any)
	if uid := accessor.GetUID(); uid != "" {
		metadata["uid"] = string(uid)
	}
	switch {
	case p.chance(0.02):
		metadata["managedFields"] = []any{}
	case p.chance(0.02):
		metadata["managedFields"] = []any{map[string]any{"manager": "broken"}}
	case p.chance(0.5) && ok && live["managedFields"] != nil:
		metadata["managedFields"] = live["managedFields"]
	case p.chance(0.05) && ok && live["managedFields"] != nil:
		metadata["managedFields"] = p.part(live["managedFields"], 0.9)
	}
}

// The object from now on, with times that are the same on every run.
func (p *player) keep(result runtime.Object, number int) {
	if !p.isOwn {
		versioned, err := scheme.Scheme.ConvertToVersion(result, p.gvk.GroupVersion())
		if err != nil {
			panic(err)
		}
		if result, err = p.object(shown(versioned)); err != nil {
			panic(err)
		}
	}
	accessor, err := meta.Accessor(result)
	if err != nil {
		panic(err)
	}
	accessor.SetUID("u")
	entries := accessor.GetManagedFields()
	for i := range entries {
		if at := entries[i].Time; at != nil && at.Year() > 2020 {
			entries[i].Time = &metav1.Time{Time: time.Date(2000, 1, 1, 0, 0, number, 0, time.UTC)}
		}
	}
	accessor.SetManagedFields(entries)
	p.live, p.created = result, true
}

func (w *world) sequence(seed int64, shapes bool) sequence {
	g := &generator{rand.New(rand.NewSource(seed))}
	gvk := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Shape"}
	if !shapes {
		gvk = kinds[g.Intn(len(kinds))]
	}
	p := newPlayer(w, g, gvk)
	bases := []map[string]any{p.base(), p.base()}
	out := sequence{Seed: seed, APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind}
	if shapes {
		out.Schema = p.schema
		bases = append(bases, p.base())
	}
	steps := 2 + g.Intn(6)
	if g.chance(0.05) {
		steps = 24
	}
	for number := range steps {
		if one, ok := p.play(number, bases); ok {
			out.Steps = append(out.Steps, one)
		}
	}
	return out
}

func main() {
	log.SetFlags(0)
	dir := flag.String("openapi", "", "folder of the OpenAPI v3 documents of k8s.io/kubernetes")
	widget := flag.String("widget", "", "structural schema of the kind of its own")
	from := flag.Int64("from", 0, "first seed")
	to := flag.Int64("to", 100, "seed after the last one")
	shapes := flag.Bool("shapes", false, "a random schema for each sequence")
	flag.Parse()
	w, err := newWorld(*dir, *widget)
	if err != nil {
		log.Fatal("merge-sequences: ", err)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for seed := *from; seed < *to; seed++ {
		line, err := json.Marshal(w.sequence(seed, *shapes))
		if err != nil {
			log.Fatal("merge-sequences: ", err)
		}
		fmt.Fprintf(out, "%s\n", line)
	}
}
