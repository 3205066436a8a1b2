// Package check ends a program at the first difference from what a cluster is known to do.
package check

import (
	"context"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Patience is how long a state may take on a busy machine.
const Patience = 60 * time.Second

// Config is that of the user's kubeconfig, in `$KUBECONFIG`.
func Config() *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	Must("the kubeconfig", err)
	config.QPS, config.Burst = 200, 400
	return config
}

// Must ends the program when there is an error.
func Must(what string, err error) {
	if err != nil {
		Fail("%s: %v", what, err)
	}
}

// That ends the program when something is not so.
func That(so bool, what string, seen ...any) {
	if !so {
		Fail("not so: %s; seen: %v", what, seen)
	}
}

// Fail ends the program with what was different.
func Fail(format string, words ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", words...)
	os.Exit(1)
}

// Eventually waits for a state, and ends the program with what was seen last when it does not come.
func Eventually(what string, look func() (bool, any)) {
	var seen any
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var so bool
		if so, seen = look(); so {
			return
		}
	}
	Fail("still not so after %v: %s; last seen: %v", Patience, what, seen)
}

// Context ends with its program's patience.
func Context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 4*Patience)
}
