package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What OpenAPI v3 says of a type.
type schemaFacts struct {
	Properties map[string]*property `json:"properties"`
	Required   []string             `json:"required"`
	MapType    string               `json:"x-kubernetes-map-type"`
}

type property struct {
	Default  json.RawMessage `json:"default"`
	Enum     []string        `json:"enum"`
	ListType string          `json:"x-kubernetes-list-type"`
	ListKeys []string        `json:"x-kubernetes-list-map-keys"`
	MapType  string          `json:"x-kubernetes-map-type"`
	Strategy string          `json:"x-kubernetes-patch-strategy"`
	MergeKey string          `json:"x-kubernetes-patch-merge-key"`
	AllOf    []*property     `json:"allOf"`
	Items    *property       `json:"items"`
}

func readOpenAPI(m *modules) (map[string]*schemaFacts, error) {
	out := map[string]*schemaFacts{}
	files, err := filepath.Glob(filepath.Join(m.dir[modKubernetes], "api/openapi-spec/v3/*_openapi.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var document struct {
			Components struct{ Schemas map[string]json.RawMessage }
		}
		if err := json.Unmarshal(text, &document); err != nil {
			return nil, err
		}
		for name, raw := range document.Components.Schemas {
			one := &schemaFacts{}
			// Types with a JSON form of their own (JSONSchemaProps) may not fit; we hold none of them.
			if json.Unmarshal(raw, one) == nil {
				out[name] = one
			}
		}
	}
	return out, nil
}

func (s *schemaFacts) attributes(name string) []string {
	if s == nil || s.Properties[name] == nil {
		return nil
	}
	p := s.Properties[name]
	out := []string{}
	if slices.Contains(s.Required, name) {
		out = append(out, "r")
	}
	if len(p.Enum) > 0 {
		out = append(out, "n="+strings.Join(p.Enum, "|"))
	}
	if p.Items != nil && len(p.Items.Enum) > 0 {
		out = append(out, "i="+strings.Join(p.Items.Enum, "|"))
	}
	return out
}
