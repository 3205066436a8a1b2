package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Numbers from generated.proto: "k8s.io.api.core.v1.Pod" → field name → number.
type protoNumbers map[string]map[string]int

var (
	protoPackage = regexp.MustCompile(`^package ([\w.]+);`)
	protoMessage = regexp.MustCompile(`^message (\w+) \{`)
	protoField   = regexp.MustCompile(`^\s+(?:optional |repeated |map<).*\s(\w+) = (\d+);`)
)

func readProto(m *modules) (protoNumbers, error) {
	out := protoNumbers{}
	for _, module := range []string{modAPI, modApimachinery, modAggregator, modExtensions, modMetrics} {
		err := filepath.WalkDir(m.dir[module], func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.Name() != "generated.proto" {
				return err
			}
			text, err := os.ReadFile(path)
			if err == nil {
				out.read(string(text))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p protoNumbers) read(text string) {
	pkg, message := "", ""
	for line := range strings.Lines(text) {
		if found := protoPackage.FindStringSubmatch(line); found != nil {
			pkg = found[1]
		} else if found := protoMessage.FindStringSubmatch(line); found != nil {
			message = pkg + "." + found[1]
			p[message] = map[string]int{}
		} else if found := protoField.FindStringSubmatch(line); found != nil && message != "" {
			number, _ := strconv.Atoi(found[2])
			p[message][found[1]] = number
		}
	}
}

// Every number of the table must be the one in generated.proto, and none may be missing.
func (p protoNumbers) check(t *goType) error {
	if !t.proto {
		return nil
	}
	// io.k8s.api.core.v1.Pod is k8s.io.api.core.v1.Pod in protobuf.
	message, ok := p["k8s.io."+strings.ReplaceAll(strings.TrimPrefix(t.name, "io.k8s."), "-", "_")]
	if !ok {
		return fmt.Errorf("no protobuf message for %s", t.name)
	}
	seen := map[int]bool{}
	for _, field := range t.fields {
		if field.number == 0 {
			continue
		}
		if message[field.protoName] != field.number {
			return fmt.Errorf("%s.%s is %d in the tag, %d in generated.proto", t.name, field.name, field.number, message[field.protoName])
		}
		seen[field.number] = true
	}
	for name, number := range message {
		if !seen[number] {
			return fmt.Errorf("%s.%s (%d) is missing", t.name, name, number)
		}
	}
	return nil
}
