package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Few words, so that names meet.
var words = []string{"a", "b", "c", "d<&>"}

var quantities = []string{"1", "1000m", "1Gi", "1024Mi", "0.5"}

// Makes random values.
type generator struct {
	*rand.Rand
}

func (g *generator) chance(of float64) bool { return g.Float64() < of }

func (g *generator) word() string { return words[g.Intn(len(words))] }

// A value that JSON of a Go type may say.
func (g *generator) typed(t reflect.Type, depth int) any {
	switch t {
	case reflect.TypeOf(resource.Quantity{}):
		return quantities[g.Intn(len(quantities))]
	case reflect.TypeOf(metav1.Time{}):
		return fmt.Sprintf("2001-01-01T00:00:0%dZ", g.Intn(3))
	case reflect.TypeOf(metav1.MicroTime{}):
		return fmt.Sprintf("2001-01-01T00:00:0%d.000000Z", g.Intn(3))
	case reflect.TypeOf(intstr.IntOrString{}):
		if g.chance(0.5) {
			return g.Intn(3)
		}
		return g.word()
	case reflect.TypeOf(runtime.RawExtension{}), reflect.TypeOf(metav1.FieldsV1{}):
		return map[string]any{g.word(): g.free(2)}
	case reflect.TypeOf(metav1.ObjectMeta{}):
		return g.metadata(depth)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.typed(t.Elem(), depth)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "YQ=="
		}
		out := []any{}
		for range g.Intn(4) {
			out = append(out, g.typed(t.Elem(), depth-1))
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for range g.Intn(4) {
			out[g.word()] = g.typed(t.Elem(), depth-1)
		}
		return out
	case reflect.Struct:
		out := map[string]any{}
		g.fields(out, t, depth)
		return out
	case reflect.String:
		return g.word()
	case reflect.Bool:
		return g.chance(0.5)
	case reflect.Int32, reflect.Int64, reflect.Int:
		return g.Intn(4)
	case reflect.Float64:
		return 1.5
	}
	panic("no value of " + t.String())
}

func (g *generator) fields(out map[string]any, t reflect.Type, depth int) {
	// Of large structs some fields, so that objects stay small.
	p := min(0.7, 6/float64(t.NumField()))
	for i := range t.NumField() {
		field := t.Field(i)
		tag, ok := field.Tag.Lookup("json")
		name := strings.Split(tag, ",")[0]
		if !ok || name == "-" || field.Type == reflect.TypeOf(metav1.TypeMeta{}) {
			continue
		}
		if name == "" {
			g.fields(out, field.Type, depth)
			continue
		}
		isKey := name == "name" || name == "type" || strings.HasSuffix(name, "ort") || name == "uid"
		if depth <= 0 && !isKey {
			continue
		}
		if g.chance(p) || (isKey && g.chance(0.9)) {
			out[name] = g.typed(field.Type, depth-1)
		}
	}
}

func (g *generator) metadata(depth int) map[string]any {
	out := map[string]any{}
	for _, key := range []string{"labels", "annotations"} {
		if g.chance(0.5) {
			out[key] = g.typed(reflect.TypeOf(map[string]string{}), depth)
		}
	}
	if g.chance(0.4) {
		out["finalizers"] = g.typed(reflect.TypeOf([]string{}), depth)
	}
	if g.chance(0.3) {
		out["ownerReferences"] = g.typed(reflect.TypeOf([]metav1.OwnerReference{}), depth)
	}
	return out
}

// Anything.
func (g *generator) free(depth int) any {
	kind := g.Intn(7)
	if depth <= 0 {
		kind = g.Intn(4)
	}
	switch kind {
	case 0:
		return g.Intn(3)
	case 1:
		return g.chance(0.5)
	case 2, 3:
		return g.word()
	case 4:
		out := []any{}
		for range g.Intn(3) {
			out = append(out, g.free(depth-1))
		}
		return out
	}
	out := map[string]any{}
	for range g.Intn(3) {
		out[g.word()] = g.free(depth - 1)
	}
	return out
}

// A value that a structural schema allows.
func (g *generator) structural(schema map[string]any, depth int) any {
	if schema["nullable"] == true && g.chance(0.15) {
		return nil
	}
	if schema["x-kubernetes-int-or-string"] == true {
		return g.typed(reflect.TypeOf(intstr.IntOrString{}), depth)
	}
	switch schema["type"] {
	case "string":
		return g.word()
	case "boolean":
		return g.chance(0.5)
	case "integer":
		return g.Intn(3)
	case "number":
		return float64(g.Intn(3)) / 2
	case "array":
		out := []any{}
		for range g.Intn(4) {
			out = append(out, g.structural(schema["items"].(map[string]any), depth-1))
		}
		return out
	case nil:
		return g.free(2)
	}
	out := map[string]any{}
	if inner, ok := schema["additionalProperties"].(map[string]any); ok {
		for range g.Intn(4) {
			out[g.word()] = g.structural(inner, depth-1)
		}
		return out
	}
	if schema["x-kubernetes-preserve-unknown-fields"] == true {
		for range g.Intn(3) {
			out[g.word()] = g.free(2)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, name := range sortedKeys(properties) {
		if g.chance(0.6) || (name == "name" && g.chance(0.9)) {
			out[name] = g.structural(properties[name].(map[string]any), depth-1)
		}
	}
	return out
}

func sortedKeys(of map[string]any) []string {
	keys := []string{}
	for key := range of {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// A part of a value, with something odd in it now and then.
func (g *generator) part(value any, keep float64) any {
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, key := range sortedKeys(value) {
			switch {
			case g.chance(0.02):
				out[key] = nil
			case g.chance(keep):
				out[key] = g.part(value[key], keep)
			}
		}
		return out
	case []any:
		out := []any{}
		for _, item := range value {
			if g.chance(keep) {
				out = append(out, g.part(item, keep))
			}
		}
		if g.chance(0.2) {
			g.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		}
		if g.chance(0.03) && len(out) > 0 {
			out = append(out, out[0])
		}
		return out
	}
	return value
}

// Both of two values, where they meet one of them.
func (g *generator) mixed(a, b any) any {
	x, xOK := a.(map[string]any)
	y, yOK := b.(map[string]any)
	if !xOK || !yOK {
		if g.chance(0.5) {
			return a
		}
		return b
	}
	out := map[string]any{}
	for _, key := range sortedKeys(x) {
		out[key] = x[key]
	}
	for _, key := range sortedKeys(y) {
		if had, ok := out[key]; ok {
			out[key] = g.mixed(had, y[key])
		} else {
			out[key] = y[key]
		}
	}
	return out
}

// As JSON has it: every number is a float.
func asJSON(value any) map[string]any {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(text, &out); err != nil {
		panic(err)
	}
	return out
}
