package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"open-cluster-management.io/api/feature"
	workv1 "open-cluster-management.io/api/work/v1"
	"open-cluster-management.io/ocm/pkg/features"
	"open-cluster-management.io/ocm/pkg/work/spoke/conditions"
	"open-cluster-management.io/ocm/pkg/work/spoke/statusfeedback"
)

// An object that was applied, and what a work asks of it; and conditions of manifests, of which a work's are made.
type work struct {
	Object    map[string]any             `json:"object"`
	Feedback  []workv1.FeedbackRule      `json:"feedback"`
	Rules     []workv1.ConditionRule     `json:"rules"`
	Manifests []workv1.ManifestCondition `json:"manifests"`
	Answer    workAnswer                 `json:"answer"`
}

type workAnswer struct {
	Values     []workv1.FeedbackValue `json:"values"`
	Failed     int                    `json:"failed"`
	Conditions []typed                `json:"conditions"`
	Aggregated []typed                `json:"aggregated"`
}

type typed struct {
	Type string `json:"type"`
	condition
}

type reader struct {
	values     *statusfeedback.StatusReader
	conditions *conditions.ConditionReader
}

func newWorks() (oracle, error) {
	if err := features.SpokeMutableFeatureGate.Add(feature.DefaultSpokeWorkFeatureGates); err != nil {
		return nil, err
	}
	if err := features.SpokeMutableFeatureGate.Set(string(feature.RawFeedbackJsonString) + "=true"); err != nil {
		return nil, err
	}
	said, err := conditions.NewConditionReader()
	r := &reader{statusfeedback.NewStatusReader(), said}
	return func(d *dice) any {
		question := d.work()
		question.Answer = r.ask(question)
		return question
	}, err
}

func (d *dice) work() *work {
	out := &work{Object: d.object(), Feedback: []workv1.FeedbackRule{}, Rules: []workv1.ConditionRule{}, Manifests: []workv1.ManifestCondition{}}
	for len(out.Feedback) == 0 || d.chance(0.3) {
		rule := workv1.FeedbackRule{Type: workv1.WellKnownStatusType}
		if d.chance(0.8) {
			rule.Type = workv1.JSONPathsType
			for len(rule.JsonPaths) == 0 || d.chance(0.6) {
				rule.JsonPaths = append(rule.JsonPaths, workv1.JsonPath{
					Name: fmt.Sprintf("v%d", len(rule.JsonPaths)), Version: pick(d, "", "", "", "v1", "v2"), Path: d.path(),
				})
			}
		}
		out.Feedback = append(out.Feedback, rule)
	}
	for len(out.Rules) == 0 || d.chance(0.4) {
		out.Rules = append(out.Rules, d.conditionRule())
	}
	for d.chance(0.7) {
		manifest := workv1.ManifestCondition{}
		for _, kind := range []string{"Applied", "Available", "Progressing", "Degraded", "Complete", "Ready"} {
			if d.chance(0.5) {
				continue
			}
			manifest.Conditions = append(manifest.Conditions, metav1.Condition{
				Type:    kind,
				Status:  pick(d, metav1.ConditionTrue, metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown),
				Reason:  pick(d, workv1.ConditionRuleEvaluated, workv1.ConditionRuleExpressionError, "ResourceAvailable"),
				Message: pick(d, "", "one", "two"),
			})
		}
		out.Manifests = append(out.Manifests, manifest)
	}
	return out
}

var fields = []string{"phase", "conditions", "type", "status", "a", "a.b", "list", "list", "example.com/x"}

func (d *dice) object() map[string]any {
	kind := pick(d, "apps/v1 Deployment", "batch/v1 Job", "batch/v1 Job", "v1 Pod", "v1 Pod", "apps/v1 DaemonSet", "v1 ConfigMap", "apps/v1beta1 Deployment", "example.com/v2 Thing")
	version, kind, _ := strings.Cut(kind, " ")
	out := map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]any{"name": "x"}}
	if d.chance(0.95) {
		status := map[string]any{}
		for _, key := range []string{"readyReplicas", "replicas", "availableReplicas", "succeeded", "numberReady", "desiredNumberScheduled", "numberAvailable"} {
			if d.chance(0.4) {
				status[key] = int64(d.Intn(5))
			}
		}
		if d.chance(0.7) {
			status["phase"] = pick(d, "Running", "Succeeded", "Failed")
		}
		if d.chance(0.8) {
			status["conditions"] = d.conditions()
		}
		for d.chance(0.6) {
			status[pick(d, fields...)] = d.value(3)
		}
		out["status"] = status
	}
	return out
}

func (d *dice) conditions() []any {
	out := []any{}
	for d.chance(0.7) {
		out = append(out, map[string]any{"type": pick(d, "Complete", "Failed", "Ready", "Available"), "status": pick(d, "True", "False"), "n": int64(d.Intn(4))})
	}
	return out
}

func (d *dice) value(depth int) any {
	switch n := d.Intn(12); {
	case n < 2 && 0 < depth:
		out := map[string]any{}
		for d.chance(0.7) {
			out[pick(d, fields...)] = d.value(depth - 1)
		}
		return out
	case n < 5 && 0 < depth:
		out := []any{}
		for d.chance(0.7) {
			out = append(out, d.value(depth-1))
		}
		return out
	case n < 8:
		return int64(d.Intn(6) - 1)
	case n == 8:
		return pick(d, 0.5, 1.25, -2.75, 1e21, 1e-7, 123456789.125)
	case n == 9:
		return d.chance(0.5)
	case n == 10:
		return pick[any](d, nil, "", "<a&b>", "line\nend", strings.Repeat("x", 600), "\u2028é")
	default:
		return pick(d, "True", "Ready", "x", "v1")
	}
}

// A path, mostly of an object's status. Upstream walks maps in any order: what leads to all values of a map is left out.
func (d *dice) path() string {
	if d.chance(0.03) {
		return pick(d, "status", ".status[", ".status.", ".", "", "$", "$.status", "@.status", ".status[x]", ".status.list[?(@.a", ".status....a", ".status[?(@.a=1)]", ".status.list]")
	}
	out := pick(d, ".status", ".status.conditions", ".status.list", ".status.a")
	if d.chance(0.05) {
		out = pick(d, ".metadata", "$.status", "['status']", `["status"]`, ".status.conditions..type", ".status.conditions.*.type")
	}
	for d.chance(0.5) {
		out += d.step()
	}
	if d.chance(0.03) {
		out += pick(d, " ", "  ", "x y")
	}
	return out
}

func (d *dice) step() string {
	field := strings.ReplaceAll(pick(d, fields...), ".", `\.`)
	switch d.Intn(16) {
	case 0:
		return fmt.Sprintf("[%d]", d.Intn(4))
	case 1:
		return fmt.Sprintf("[-%d]", 1+d.Intn(3))
	case 2:
		return "[*]"
	case 3:
		return fmt.Sprintf("[%s:%s]", pick(d, "", "0", "1", "-1", "2"), pick(d, "", "1", "2", "-1", "9"))
	case 4, 5, 6:
		return fmt.Sprintf(`['%s']`, pick(d, fields...))
	case 7:
		return fmt.Sprintf(`[?(@.type%s"%s")]`, pick(d, "==", "!=", " == "), pick(d, "Complete", "Ready"))
	case 8:
		return fmt.Sprintf("[?(@.%s%s%d)]", pick(d, "n", "a"), pick(d, "<", ">", "<=", ">=", "==", "!="), d.Intn(3))
	case 9:
		return fmt.Sprintf("[?(@.%s)]", field)
	case 10:
		return pick(d, "[0,1]", "['a','phase']", "[0:9:2]", "[ 0 ]", "[?(@=='x')]", "[?(@.status==true)]", `[?(@.type=='Ready')]`, ".conditions[?(@.type==\"Ready\")].status", ".conditions[?(@.n>0)].type")
	default:
		return "." + field
	}
}

func (d *dice) conditionRule() workv1.ConditionRule {
	out := workv1.ConditionRule{Type: workv1.WellKnownConditionsType, Condition: pick(d, "Complete", "Complete", "Ready"), CelExpressions: []string{}}
	if d.chance(0.7) {
		out.Type = workv1.CelConditionExpressionsType
		for len(out.CelExpressions) == 0 || d.chance(0.3) {
			out.CelExpressions = append(out.CelExpressions, pick(d,
				"object.status.replicas == object.status.readyReplicas", "object.status.replicas > 2", "has(object.status.phase)",
				"hasConditions(object.status)", "hasConditions(object.status) && object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
				"hasConditions(object)", "object.status.conditions.all(c, c.n < 3)", "object.status.phase", "object.kind == 'Job'", "true", "object.status[", "nothing",
				"object.?status.?phase.orValue('none') == 'Running'", "object.status.conditions.size() > 1", "1 / 0 == 1", "string(object.status.replicas).matches('^[0-2]$')",
			))
		}
	}
	out.Message = pick(d, "", "", "as told")
	out.MessageExpression = pick(d, "", "", "", "result ? 'is ' + object.kind : 'is not'", "object.status.phase", "''", "1", "nothing", "string(object.status.replicas)")
	return out
}

func (r *reader) ask(question *work) workAnswer {
	text, err := json.Marshal(question.Object)
	if err != nil {
		panic(err)
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(text); err != nil {
		panic(err)
	}
	out := workAnswer{Values: []workv1.FeedbackValue{}, Conditions: []typed{}, Aggregated: []typed{}}
	for _, rule := range question.Feedback {
		values, err := r.values.GetValuesByRule(object, rule)
		out.Values = append(out.Values, values...)
		if several, ok := err.(utilerrors.Aggregate); ok {
			out.Failed += len(several.Errors())
		} else if err != nil {
			out.Failed++
		}
	}
	out.Conditions = append(out.Conditions, told(r.conditions.EvaluateConditions(context.Background(), object, question.Rules))...)
	out.Aggregated = append(out.Aggregated, told(conditions.AggregateManifestConditions(1, question.Manifests))...)
	slices.SortFunc(out.Aggregated, func(a, b typed) int { return strings.Compare(a.Type, b.Type) })
	return out
}

func told(all []metav1.Condition) []typed {
	var out []typed
	for _, one := range all {
		out = append(out, typed{one.Type, condition{one.Status, one.Reason, one.Message}})
	}
	return out
}
