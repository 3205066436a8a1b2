package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// The structured-merge schema: what server-side apply knows of a type.
type mergeType struct {
	Name string    `json:"name"`
	Map  *mergeMap `json:"map"`
}

type mergeRef struct {
	NamedType    string     `json:"namedType"`
	Relationship string     `json:"elementRelationship"`
	Map          *mergeMap  `json:"map"`
	List         *mergeList `json:"list"`
}

type mergeMap struct {
	Fields []struct {
		Name string   `json:"name"`
		Type mergeRef `json:"type"`
	} `json:"fields"`
	Relationship string `json:"elementRelationship"`
}

type mergeList struct {
	Relationship string   `json:"elementRelationship"`
	Keys         []string `json:"keys"`
}

// The schema is a string constant of an internal package, so it is read from the source.
func readMerge(m *modules) (map[string]*mergeType, error) {
	path := filepath.Join(m.dir[modClientGo], "applyconfigurations/internal/internal.go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		return nil, err
	}
	text := ""
	ast.Inspect(file, func(node ast.Node) bool {
		literal, ok := node.(*ast.BasicLit)
		if ok && literal.Kind == token.STRING && strings.HasPrefix(literal.Value, "`types:") {
			text, err = strconv.Unquote(literal.Value)
		}
		return true
	})
	if err != nil || text == "" {
		return nil, fmt.Errorf("%s holds no schema: %w", path, err)
	}
	var all struct{ Types []*mergeType }
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		return nil, err
	}
	out := map[string]*mergeType{}
	for _, one := range all.Types {
		out[one.Name] = one
	}
	return out, nil
}

func (t *mergeType) atomic() bool {
	return t != nil && t.Map != nil && t.Map.Relationship == "atomic"
}

// List and map facts of a field, or nil when the schema does not know it.
func (t *mergeType) attributes(name string) ([]string, bool) {
	if t == nil || t.Map == nil {
		return nil, false
	}
	for _, field := range t.Map.Fields {
		if field.Name != name {
			continue
		}
		ref := field.Type
		switch {
		case ref.List != nil && ref.List.Relationship == "associative" && len(ref.List.Keys) > 0:
			return []string{"l=map", "k=" + strings.Join(ref.List.Keys, "|")}, true
		case ref.List != nil && ref.List.Relationship == "associative":
			return []string{"l=set"}, true
		case ref.List != nil:
			return []string{"l=atomic"}, true
		case ref.Relationship == "atomic" || (ref.Map != nil && ref.Map.Relationship == "atomic"):
			return []string{"m=atomic"}, true
		}
		return nil, true
	}
	return nil, false
}

// The same from OpenAPI, for types that nobody applies, and as a check on the others.
func (s *schemaFacts) listAttributes(name string) []string {
	if s == nil || s.Properties[name] == nil {
		return nil
	}
	p := s.Properties[name]
	out := []string{}
	if p.ListType != "" {
		out = append(out, "l="+p.ListType)
	}
	if len(p.ListKeys) > 0 {
		out = append(out, "k="+strings.Join(p.ListKeys, "|"))
	}
	if p.MapType == "atomic" {
		out = append(out, "m=atomic")
	}
	return out
}
