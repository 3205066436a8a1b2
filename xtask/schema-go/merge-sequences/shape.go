package main

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

var keys = []string{"name", "port", "on"}

// A structural schema of a whole object, as a CustomResourceDefinition may have it.
func (g *generator) shape() map[string]any {
	return map[string]any{"type": "object", "properties": map[string]any{
		"spec":   g.object(5),
		"status": g.object(3),
	}}
}

// Fields, some of them with schemas of their own.
func (g *generator) properties(depth int) map[string]any {
	out := map[string]any{}
	for range 1 + g.Intn(5) {
		out[string(rune('a'+g.Intn(8)))] = g.any(depth - 1)
	}
	return out
}

func (g *generator) object(depth int) map[string]any {
	out := map[string]any{"type": "object"}
	switch g.Intn(8) {
	case 0, 1:
		out["additionalProperties"] = g.any(depth - 1)
	case 2:
		out["x-kubernetes-preserve-unknown-fields"] = true
		if g.chance(0.7) {
			out["properties"] = g.properties(depth)
		}
	case 3:
		// Nothing is said of what is inside: anything may be.
		if g.chance(0.3) {
			break
		}
		fallthrough
	default:
		out["properties"] = g.properties(depth)
	}
	switch g.Intn(6) {
	case 0:
		out["x-kubernetes-map-type"] = "atomic"
	case 1:
		out["x-kubernetes-map-type"] = "granular"
	}
	return out
}

func (g *generator) scalar() map[string]any {
	switch g.Intn(7) {
	case 0:
		return map[string]any{"type": "integer"}
	case 1:
		return map[string]any{"type": "number"}
	case 2:
		return map[string]any{"type": "boolean"}
	case 3:
		return map[string]any{"x-kubernetes-int-or-string": true}
	}
	return map[string]any{"type": "string"}
}

// Anything that a field may be.
func (g *generator) any(depth int) map[string]any {
	kind := g.Intn(10)
	if depth <= 0 {
		kind = 9
	}
	var out map[string]any
	switch kind {
	case 0, 1, 2:
		out = g.object(depth)
	case 3:
		out = map[string]any{"type": "array", "items": g.any(depth - 1)}
		if g.chance(0.5) {
			out["x-kubernetes-list-type"] = "atomic"
		}
	case 4:
		items := g.scalar()
		if g.chance(0.3) {
			items = g.object(depth - 1)
			items["x-kubernetes-map-type"] = "atomic"
		}
		out = map[string]any{"type": "array", "items": items, "x-kubernetes-list-type": "set"}
	case 5, 6:
		out = g.associative(depth)
	case 7:
		out = map[string]any{"x-kubernetes-preserve-unknown-fields": true}
	default:
		out = g.scalar()
	}
	if g.chance(0.15) {
		out["nullable"] = true
	}
	return out
}

// A list whose elements are told apart by one to three keys.
func (g *generator) associative(depth int) map[string]any {
	fields := g.properties(depth - 1)
	chosen := []any{}
	for _, at := range g.Perm(len(keys))[:1+g.Intn(3)] {
		key := keys[at]
		field := map[string]any{"type": map[string]string{"name": "string", "port": "integer", "on": "boolean"}[key]}
		if g.chance(0.4) {
			field["default"] = map[string]any{"name": "a", "port": 1, "on": true}[key]
		}
		fields[key] = field
		chosen = append(chosen, key)
	}
	items := map[string]any{"type": "object", "properties": fields}
	if g.chance(0.15) {
		items["x-kubernetes-map-type"] = "atomic"
	}
	if g.chance(0.1) {
		items["x-kubernetes-preserve-unknown-fields"] = true
	}
	return map[string]any{
		"type": "array", "items": items,
		"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": chosen,
	}
}

// What upstream makes of a structural schema, beside the types that all objects have.
func (w *world) converter(name string, shape map[string]any) (managedfields.TypeConverter, error) {
	text, err := json.Marshal(shape)
	if err != nil {
		return nil, err
	}
	own := &spec.Schema{}
	if err := json.Unmarshal(text, own); err != nil {
		return nil, err
	}
	word := spec.StringProperty()
	own.Properties["apiVersion"], own.Properties["kind"] = *word, *word
	own.Properties["metadata"] = *spec.RefSchema("#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
	own.AddExtension("x-kubernetes-group-version-kind", []any{
		map[string]any{"group": "example.com", "version": "v1", "kind": name},
	})
	models := map[string]*spec.Schema{"com.example.v1." + name: own}
	for name, one := range w.models {
		models[name] = one
	}
	return managedfields.NewTypeConverter(models, false)
}
