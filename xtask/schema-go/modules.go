package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
)

// Where the pinned modules lie on this machine, and their versions.
type modules struct {
	dir     map[string]string
	version map[string]string
}

const (
	modKubernetes   = "k8s.io/kubernetes"
	modAPI          = "k8s.io/api"
	modApimachinery = "k8s.io/apimachinery"
	modClientGo     = "k8s.io/client-go"
	modAggregator   = "k8s.io/kube-aggregator"
	modExtensions   = "k8s.io/apiextensions-apiserver"
	modMetrics      = "k8s.io/metrics"
	modOCM          = "open-cluster-management.io/api"
)

var moduleNames = []string{
	modKubernetes, modAPI, modApimachinery, modClientGo, modAggregator, modExtensions, modMetrics,
	modOCM,
}

func findModules() (*modules, error) {
	found := &modules{dir: map[string]string{}, version: map[string]string{}}
	for _, name := range moduleNames {
		args := []string{"list", "-m", "-json", name}
		if name == modKubernetes {
			args = []string{"mod", "download", "-json", name + "@" + kubernetesVersion}
		}
		out, err := exec.Command("go", args...).Output()
		if err != nil {
			return nil, fmt.Errorf("go %v: %w", args, err)
		}
		var module struct{ Dir, Version, Sum string }
		if err := json.Unmarshal(out, &module); err != nil {
			return nil, fmt.Errorf("go %v: %w", args, err)
		}
		if name == modKubernetes && module.Sum != kubernetesSum {
			return nil, fmt.Errorf("%s has sum %s, pinned is %s", name, module.Sum, kubernetesSum)
		}
		found.dir[name], found.version[name] = module.Dir, module.Version
	}
	return found, nil
}
