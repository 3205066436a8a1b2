// Bounds the time of each spec, and tells as it goes which one runs and how it ended, so that a run which dies half-way has
// told what it knew.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

// What is told, a line of JSON each, into the file that CONFORMANCE_EVENTS names. xtask/src/conformance/outcome.rs reads it.
type event struct {
	Spec  string `json:"spec"`
	State string `json:"state"`
	// Why it failed, where, and the last step that it had announced.
	Message string `json:"message"`
	At      string `json:"at"`
	Step    string `json:"step"`
}

var events *os.File

func tell(told event) {
	if events == nil {
		return
	}
	line, err := json.Marshal(told)
	if err == nil {
		_, err = events.Write(append(line, '\n'))
	}
	if err != nil {
		panic(fmt.Sprintf("cannot tell of %s: %v", told.Spec, err))
	}
}

func skipped(report ginkgo.SpecReport) bool {
	return report.LeafNodeType != types.NodeTypeIt || report.State.Is(types.SpecStateSkipped|types.SpecStatePending) && report.Failure.Message == ""
}

func lastStep(report ginkgo.SpecReport) string {
	step := ""
	for _, past := range report.SpecEvents.WithType(types.SpecEventByStart) {
		// What comes after is said by the framework's own cleaning.
		if report.Failure.TimelineLocation.Order < past.TimelineLocation.Order {
			break
		}
		step = past.Message
	}
	return step
}

func ended(report ginkgo.SpecReport) event {
	told := event{
		Spec:    report.FullText(),
		State:   report.State.String(),
		Message: report.Failure.Message,
	}
	if report.State.Is(types.SpecStateFailureStates) {
		told.At = report.Failure.Location.String()
		told.Step = lastStep(report)
		if more := report.Failure.AdditionalFailure; more != nil {
			told.Message += "\n" + more.Failure.Message
		}
		if report.Failure.ForwardedPanic != "" {
			told.Message += "\n" + report.Failure.ForwardedPanic
		}
	}
	return told
}

// Only a spec that takes a context can be given a bound.
func boundable(args []any) bool {
	for _, arg := range args {
		if more, ok := arg.([]any); ok {
			if boundable(more) {
				return true
			}
			continue
		}
		t := reflect.TypeOf(arg)
		if t != nil && t.Kind() == reflect.Func && t.NumIn() == 1 && t.In(0).Implements(reflect.TypeFor[context.Context]()) {
			return true
		}
	}
	return false
}

func init() {
	if path := os.Getenv("CONFORMANCE_EVENTS"); path != "" {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			panic(err)
		}
		events = file
	}
	if text := os.Getenv("CONFORMANCE_SPEC_BOUND"); text != "" {
		bound, err := time.ParseDuration(text)
		if err != nil {
			panic(err)
		}
		ginkgo.AddTreeConstructionNodeArgsTransformer(func(kind types.NodeType, _ ginkgo.Offset, text string, args []any) (string, []any, []error) {
			if kind.Is(types.NodeTypeIt) && boundable(args) {
				args = append(args, ginkgo.SpecTimeout(bound))
			}
			return text, args, nil
		})
	}
}

// observe is called when the specs have been previewed: ginkgo forgets after that what was to be reported before.
func observe() {
	ginkgo.ReportBeforeEach(func(report ginkgo.SpecReport) {
		if !skipped(report) {
			tell(event{Spec: report.FullText(), State: "started"})
		}
	})
	ginkgo.ReportAfterEach(func(report ginkgo.SpecReport) {
		if !skipped(report) {
			tell(ended(report))
		}
	})
}
