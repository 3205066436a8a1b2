package main

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	extensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	workv1 "open-cluster-management.io/api/work/v1"
)

// One struct type, as Go sees it.
type goType struct {
	name   string
	proto  bool
	crd    bool
	fields []goField
}

// One field. `name` is "." when the field's own fields lie flat in its parent's JSON.
type goField struct {
	name      string
	typ       string
	omitEmpty bool
	omitZero  bool
	number    int
	strategy  string
	mergeKey  string
	protoName string
}

// Types with a JSON form of their own, as the table calls them.
var scalars = map[reflect.Type]string{
	reflect.TypeOf(resource.Quantity{}):    "quantity",
	reflect.TypeOf(metav1.Time{}):          "time",
	reflect.TypeOf(metav1.MicroTime{}):     "microtime",
	reflect.TypeOf(metav1.Duration{}):      "string",
	reflect.TypeOf(intstr.IntOrString{}):   "intstr",
	reflect.TypeOf(runtime.RawExtension{}): "raw",
	reflect.TypeOf(metav1.FieldsV1{}):      "fields",
	reflect.TypeOf(extensionsv1.JSON{}):    "raw",
	reflect.TypeOf(workv1.Manifest{}):      "raw",
}

// A schema, or in its place what the table calls this.
var alternatives = map[reflect.Type]string{
	reflect.TypeOf(extensionsv1.JSONSchemaPropsOrBool{}):        "bool",
	reflect.TypeOf(extensionsv1.JSONSchemaPropsOrStringArray{}): "strings",
	reflect.TypeOf(extensionsv1.JSONSchemaPropsOrArray{}):       "list",
}

type modelNamer interface{ OpenAPIModelName() string }

type marshaler interface{ Marshal() ([]byte, error) }

func modelName(t reflect.Type) (string, error) {
	if namer, ok := reflect.New(t).Interface().(modelNamer); ok {
		return namer.OpenAPIModelName(), nil
	}
	return "", fmt.Errorf("%s has no OpenAPI name", t)
}

// Collects a type and all that it reaches.
type walker struct {
	types map[string]*goType
}

func (w *walker) walk(t reflect.Type) (string, error) {
	name, err := modelName(t)
	if err != nil || w.types[name] != nil {
		return name, err
	}
	_, hasProto := reflect.New(t).Interface().(marshaler)
	crd := strings.HasPrefix(t.PkgPath(), "open-cluster-management.io/")
	out := &goType{name: name, proto: hasProto, crd: crd}
	w.types[name] = out
	for i := range t.NumField() {
		field := t.Field(i)
		if !field.IsExported() {
			continue
		}
		if err := w.field(out, field); err != nil {
			return "", fmt.Errorf("%s.%s: %w", name, field.Name, err)
		}
	}
	return name, nil
}

func (w *walker) field(owner *goType, field reflect.StructField) error {
	jsonTag, ok := field.Tag.Lookup("json")
	parts := strings.Split(jsonTag, ",")
	if !ok || parts[0] == "-" {
		return nil
	}
	out := goField{
		name:     parts[0],
		strategy: strings.ReplaceAll(field.Tag.Get("patchStrategy"), ",", "+"),
		mergeKey: field.Tag.Get("patchMergeKey"),
	}
	for _, option := range parts[1:] {
		switch option {
		case "omitempty":
			out.omitEmpty = true
		case "omitzero":
			out.omitZero = true
		}
	}
	if out.name == "" {
		if field.Type == reflect.TypeOf(metav1.TypeMeta{}) {
			owner.fields = append(owner.fields,
				goField{name: "apiVersion", typ: "string", omitEmpty: true},
				goField{name: "kind", typ: "string", omitEmpty: true})
			return nil
		}
		out.name = "."
	}
	if tag, ok := field.Tag.Lookup("protobuf"); ok && owner.proto {
		out.protoName = strings.ToLower(field.Name[:1]) + field.Name[1:]
		for i, part := range strings.Split(tag, ",") {
			if i == 1 {
				number, err := strconv.Atoi(part)
				if err != nil {
					return err
				}
				out.number = number
			}
			if name, ok := strings.CutPrefix(part, "name="); ok {
				out.protoName = name
			}
		}
	}
	typ, err := w.typeText(field.Type)
	if err != nil {
		return err
	}
	if owner.proto && field.Type == reflect.TypeOf(metav1.Duration{}) {
		// Text in JSON, and a message on the wire.
		typ = "duration"
	}
	out.typ = typ
	owner.fields = append(owner.fields, out)
	return nil
}

func (w *walker) typeText(t reflect.Type) (string, error) {
	if text, ok := scalars[t]; ok {
		return text, nil
	}
	if other, ok := alternatives[t]; ok {
		name, err := w.walk(reflect.TypeOf(extensionsv1.JSONSchemaProps{}))
		return "@" + name + "|" + other, err
	}
	if t.Kind() == reflect.Slice && t.Name() != "" {
		if _, ok := reflect.New(t).Interface().(marshaler); ok {
			// A named list is a message of its own in protobuf: ExtraValue, Verbs.
			return "strings", nil
		}
	}
	switch t.Kind() {
	case reflect.Pointer:
		inner, err := w.typeText(t.Elem())
		return "*" + inner, err
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes", nil
		}
		inner, err := w.typeText(t.Elem())
		return "[]" + inner, err
	case reflect.Map:
		inner, err := w.typeText(t.Elem())
		return "{}" + inner, err
	case reflect.Struct:
		name, err := w.walk(t)
		return "@" + name, err
	case reflect.String:
		return "string", nil
	case reflect.Bool:
		return "bool", nil
	case reflect.Int32:
		return "int32", nil
	case reflect.Int64, reflect.Int:
		return "int64", nil
	case reflect.Float64:
		return "float64", nil
	}
	return "", fmt.Errorf("no word for %s", t)
}
