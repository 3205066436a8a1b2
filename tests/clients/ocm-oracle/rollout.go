package main

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	clocktesting "k8s.io/utils/clock/testing"
	api "open-cluster-management.io/api/cluster/v1alpha1"
	sdk "open-cluster-management.io/sdk-go/pkg/apis/cluster/v1alpha1"
	groups "open-cluster-management.io/sdk-go/pkg/apis/cluster/v1beta1"
)

type rollout struct {
	Now      metav1.Time         `json:"now"`
	Strategy api.RolloutStrategy `json:"strategy"`
	Groups   []rolloutGroup      `json:"groups"`
	Given    []rolloutStatus     `json:"given"`
	Answer   rolloutAnswer       `json:"answer"`
}

type rolloutGroup struct {
	Name     string   `json:"name"`
	Index    int32    `json:"index"`
	Clusters []string `json:"clusters"`
}

type rolloutStatus struct {
	Cluster string       `json:"cluster"`
	Stage   string       `json:"stage"`
	Since   *metav1.Time `json:"since,omitempty"`
}

type rolloutAnswer struct {
	Error    string            `json:"error,omitempty"`
	Rolling  map[string]string `json:"rolling"`
	TimedOut []string          `json:"timedOut"`
	Breached bool              `json:"breached"`
	// Seconds until it has to be looked again.
	Again *float64 `json:"again,omitempty"`
}

var stages = map[sdk.RolloutStatus]string{
	sdk.ToApply: "ToApply", sdk.Progressing: "Progressing", sdk.Succeeded: "Succeeded", sdk.Failed: "Failed", sdk.TimeOut: "TimedOut",
}

func newRollouts() oracle {
	sdk.RolloutClock = clocktesting.NewFakeClock(now)
	return func(d *dice) any {
		question := d.rollout()
		question.Answer = question.ask()
		return question
	}
}

// A number of clusters, or a share of them, as their definitions let through.
func (d *dice) amount() intstr.IntOrString {
	switch {
	case d.chance(0.25):
		return intstr.IntOrString{}
	case d.chance(0.02):
		return intstr.FromString(pick(d, "3", "0", "00"))
	case d.chance(0.5):
		return intstr.FromInt(d.Intn(8) - 1)
	default:
		return intstr.FromString(fmt.Sprintf("%d%%", pick(d, 0, 1, 7, 10, 14, 20, 25, 28, 29, 33, 34, 50, 55, 56, 57, 58, 66, 75, 99, 100)))
	}
}

func (d *dice) config() api.RolloutConfig {
	out := api.RolloutConfig{
		MinSuccessTime:   metav1.Duration{Duration: pick(d, 0, 0, 0, 30*time.Second, time.Minute, time.Hour, 90*time.Second, -time.Minute)},
		ProgressDeadline: pick(d, "", "None", "None", "0s", "30s", "60s", "90s", "1m", "10m", "1h", "1h30m"),
		MaxFailures:      d.amount(),
	}
	if d.chance(0.01) {
		// Its definition lets them through.
		out.ProgressDeadline = pick(d, "5mx", "9|")
	}
	return out
}

func (d *dice) mandatory() api.MandatoryDecisionGroups {
	var out api.MandatoryDecisionGroups
	for d.chance(0.4) {
		out.MandatoryDecisionGroups = append(out.MandatoryDecisionGroups,
			api.MandatoryDecisionGroup{GroupName: pick(d, "", "", "canary", "site-a", "nowhere"), GroupIndex: int32(d.Intn(4))})
	}
	return out
}

func (d *dice) strategy() api.RolloutStrategy {
	out := api.RolloutStrategy{Type: pick(d, api.All, api.Progressive, api.Progressive, api.ProgressivePerGroup, api.ProgressivePerGroup)}
	if d.chance(0.95) {
		out.All = &api.RolloutAll{RolloutConfig: d.config()}
		out.Progressive = &api.RolloutProgressive{RolloutConfig: d.config(), MandatoryDecisionGroups: d.mandatory(), MaxConcurrency: d.amount()}
		out.ProgressivePerGroup = &api.RolloutProgressivePerGroup{RolloutConfig: d.config(), MandatoryDecisionGroups: d.mandatory()}
	}
	if d.chance(0.005) {
		out.Type = "Sometimes"
	}
	return out
}

func (d *dice) rollout() *rollout {
	out := &rollout{Now: metav1.NewTime(now), Strategy: d.strategy(), Groups: []rolloutGroup{}, Given: []rolloutStatus{}}
	all := 1 + d.Intn(12)
	if d.chance(0.03) {
		all = 100
	}
	// Names say nothing about groups.
	names := d.Perm(all)
	begun, well := d.Float64(), d.Float64()
	for 0 < len(names) && !d.chance(0.01) {
		group := rolloutGroup{Name: pick(d, "", "", "canary", "site-a"), Index: int32(len(out.Groups))}
		size := min(1+d.Intn(1+all/2), len(names))
		for _, name := range names[:size] {
			group.Clusters = append(group.Clusters, fmt.Sprintf("c%03d", name))
		}
		names = names[size:]
		slices.Sort(group.Clusters)
		out.Groups = append(out.Groups, group)
		for _, cluster := range group.Clusters {
			if d.chance(begun) {
				out.Given = append(out.Given, d.status(cluster, well))
			}
		}
	}
	if d.chance(0.2) {
		out.Given = append(out.Given, d.status("gone", well))
	}
	return out
}

func (d *dice) status(cluster string, well float64) rolloutStatus {
	out := rolloutStatus{Cluster: cluster, Stage: "Succeeded"}
	if !d.chance(well) {
		out.Stage = pick(d, "ToApply", "Progressing", "Progressing", "Failed", "TimedOut")
	}
	if d.chance(0.95) {
		since := metav1.NewTime(pick(d, now, now.Add(-30*time.Second), now.Add(-time.Minute), now.Add(-90*time.Second), d.around(120), d.around(7200)))
		out.Since = &since
	}
	return out
}

func (r *rollout) ask() rolloutAnswer {
	known := groups.ClusterGroupsMap{}
	for _, group := range r.Groups {
		known[groups.GroupKey{GroupName: group.Name, GroupIndex: group.Index}] = sets.New(group.Clusters...)
	}
	tracker := groups.NewPlacementDecisionClustersTrackerWithGroups(nil, nil, known)
	handler, err := sdk.NewRolloutHandler[any](tracker, nil)
	if err != nil {
		panic(err)
	}
	var given []sdk.ClusterRolloutStatus
	for _, one := range r.Given {
		status := sdk.ClusterRolloutStatus{ClusterName: one.Cluster, LastTransitionTime: one.Since}
		for number, name := range stages {
			if name == one.Stage {
				status.Status = number
			}
		}
		given = append(given, status)
	}
	out := rolloutAnswer{Rolling: map[string]string{}, TimedOut: []string{}}
	_, result, err := handler.GetRolloutCluster(r.Strategy, given)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	for _, one := range result.ClustersToRollout {
		out.Rolling[one.ClusterName] = stages[one.Status]
	}
	for _, one := range result.ClustersTimeOut {
		out.TimedOut = append(out.TimedOut, one.ClusterName)
	}
	slices.Sort(out.TimedOut)
	out.Breached = result.MaxFailureBreach
	if result.RecheckAfter != nil {
		seconds := result.RecheckAfter.Seconds()
		out.Again = &seconds
	}
	return out
}
