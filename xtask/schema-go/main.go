// Writes the table of facts about the Kubernetes types, and the fixtures that prove our codecs
// against Go's own.
//
//	schema-go -schema hub/schema/src
//	schema-go -openapi
//
// Where each fact comes from:
//
//	types, JSON names, omitempty, merge keys   Go types of k8s.io/api and kube-aggregator, by reflection
//	protobuf numbers                           generated.proto, checked against the struct tags
//	required, default, enum                    OpenAPI v3 of k8s.io/kubernetes
//	list and map types of server-side apply    structured-merge schema of client-go
//	kinds of Open Cluster Management           Go types and CRDs of open-cluster-management.io/api
//
// No prose is copied: descriptions stay where they are.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
)

// The swagger lives in a module that cannot be imported, so it is pinned here and not in go.mod.
const (
	kubernetesVersion = "v1.36.4"
	kubernetesSum     = "h1:08GT0ZOMtyCcRnslyvnpWurf1wm20KHbC/aRS+0LxSo="
)

func main() {
	log.SetFlags(0)
	schema := flag.String("schema", "", "source directory of the crate that holds table and fixtures")
	openapi := flag.Bool("openapi", false, "say where the OpenAPI v3 documents are, and do nothing else")
	flag.Parse()
	if *openapi {
		modules, err := findModules()
		if err != nil {
			log.Fatal("schema-go: ", err)
		}
		fmt.Println(filepath.Join(modules.dir[modKubernetes], "api/openapi-spec/v3"))
		return
	}
	if err := run(*schema); err != nil {
		log.Fatal("schema-go: ", err)
	}
}

func run(schema string) error {
	modules, err := findModules()
	if err != nil {
		return err
	}
	text, err := writeTable(modules)
	if err != nil {
		return err
	}
	table := filepath.Join(schema, "types/table.txt")
	if err := os.WriteFile(table, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: %d bytes\n", table, len(text))
	if err := writeFixtures(modules, filepath.Join(schema, "protobuf/fixtures")); err != nil {
		return err
	}
	if err := writeQuantities(filepath.Join(schema, "types/fixtures/quantities.txt")); err != nil {
		return err
	}
	return writePatches(filepath.Join(schema, "patch/fixtures/strategic"))
}
