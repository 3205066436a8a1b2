package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"open-cluster-management.io/api/client/cluster/clientset/versioned/fake"
	informers "open-cluster-management.io/api/client/cluster/informers/externalversions"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"open-cluster-management.io/ocm/pkg/placement/controllers/framework"
	"open-cluster-management.io/ocm/pkg/placement/controllers/metrics"
	"open-cluster-management.io/ocm/pkg/placement/controllers/scheduling"
	"open-cluster-management.io/ocm/pkg/placement/plugins/addon"
	"open-cluster-management.io/ocm/pkg/placement/plugins/tainttoleration"
	"open-cluster-management.io/sdk-go/pkg/basecontroller/factory"
)

type placementAnswer struct {
	// Clusters behind the predicates, and behind the taints as well.
	Filtered [][]string `json:"filtered"`
	// Of those behind both.
	Scores        map[string]int64 `json:"scores"`
	Decisions     []sliceOf        `json:"decisions"`
	Selected      int32            `json:"selected"`
	Satisfied     condition        `json:"satisfied"`
	Misconfigured condition        `json:"misconfigured"`
	// Of several warnings upstream keeps any.
	Warned bool `json:"warned"`
}

// A PlacementDecision.
type sliceOf struct {
	Name       string   `json:"name"`
	GroupName  string   `json:"groupName"`
	GroupIndex string   `json:"groupIndex"`
	Clusters   []string `json:"clusters"`
}

type condition struct {
	Status  metav1.ConditionStatus `json:"status"`
	Reason  string                 `json:"reason"`
	Message string                 `json:"message"`
}

// Upstream's scheduler, and what it said last.
type recorded struct {
	scheduling.Scheduler
	result scheduling.ScheduleResult
	status *framework.Status
}

func (r *recorded) Schedule(ctx context.Context, placement *clusterv1beta1.Placement, clusters []*clusterv1.ManagedCluster) (scheduling.ScheduleResult, *framework.Status) {
	r.result, r.status = r.Scheduler.Schedule(ctx, placement, clusters)
	return r.result, r.status
}

// Upstream's controller over stores that hold one question at a time, and a client that keeps what it is told.
type placements struct {
	controller factory.Controller
	scheduler  *recorded
	client     *fake.Clientset

	clusters, sets, bindings, placements, decisions, scores cache.Store
}

func newPlacements() oracle {
	tainttoleration.TolerationClock = clocktesting.NewFakeClock(now)
	addon.AddOnClock = clocktesting.NewFakeClock(now)
	client := &fake.Clientset{}
	client.AddReactor("*", "*", answered)
	of := informers.NewSharedInformerFactory(client, 0).Cluster()
	recorder, measured := &events.FakeRecorder{}, metrics.NewScheduleMetrics(clock.RealClock{})
	scheduler := &recorded{Scheduler: scheduling.NewPluginScheduler(scheduling.NewSchedulerHandler(
		client, of.V1beta1().PlacementDecisions().Lister(), of.V1alpha1().AddOnPlacementScores().Lister(), of.V1().ManagedClusters().Lister(), recorder, measured,
	))}
	p := &placements{
		scheduler: scheduler, client: client,
		controller: scheduling.NewSchedulingController(
			context.Background(), client, of.V1().ManagedClusters(), of.V1beta2().ManagedClusterSets(), of.V1beta2().ManagedClusterSetBindings(),
			of.V1beta1().Placements(), of.V1beta1().PlacementDecisions(), of.V1alpha1().AddOnPlacementScores(), scheduler, recorder, measured,
		),
		clusters:   of.V1().ManagedClusters().Informer().GetStore(),
		sets:       of.V1beta2().ManagedClusterSets().Informer().GetStore(),
		bindings:   of.V1beta2().ManagedClusterSetBindings().Informer().GetStore(),
		placements: of.V1beta1().Placements().Informer().GetStore(),
		decisions:  of.V1beta1().PlacementDecisions().Informer().GetStore(),
		scores:     of.V1alpha1().AddOnPlacementScores().Informer().GetStore(),
	}
	return func(d *dice) any {
		question := d.placement()
		question.Answer = p.ask(question)
		return question
	}
}

// A server that takes everything as it comes.
func answered(action clienttesting.Action) (bool, runtime.Object, error) {
	switch action := action.(type) {
	case clienttesting.CreateActionImpl:
		return true, action.GetObject(), nil
	case clienttesting.PatchActionImpl:
		return true, &clusterv1beta1.Placement{}, nil
	case clienttesting.DeleteActionImpl:
		return true, nil, nil
	default:
		panic(fmt.Sprintf("not expected: %v", action))
	}
}

func replace[T any](store cache.Store, all []T) {
	list := make([]any, len(all))
	for i, one := range all {
		list[i] = one
	}
	if err := store.Replace(list, ""); err != nil {
		panic(err)
	}
}

func (p *placements) ask(question *placement) placementAnswer {
	replace(p.clusters, question.Clusters)
	replace(p.sets, question.Sets)
	var bindings []*clusterv1beta2.ManagedClusterSetBinding
	for _, set := range question.Bound {
		bindings = append(bindings, &clusterv1beta2.ManagedClusterSetBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: set}, Spec: clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: set},
		})
	}
	replace(p.bindings, bindings)
	replace(p.placements, []*clusterv1beta1.Placement{question.Placement})
	var decisions []*clusterv1beta1.PlacementDecision
	for i, one := range question.Decisions {
		// With names that no new one has: what is decided is created then, and seen whole.
		decision := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
			Namespace: one.Namespace, Name: fmt.Sprintf("before-%d", i), Labels: map[string]string{clusterv1beta1.PlacementLabel: one.Placement},
		}}
		for _, cluster := range one.Clusters {
			decision.Status.Decisions = append(decision.Status.Decisions, clusterv1beta1.ClusterDecision{ClusterName: cluster})
		}
		decisions = append(decisions, decision)
	}
	replace(p.decisions, decisions)
	replace(p.scores, question.Scores)
	p.client.ClearActions()
	p.scheduler.result = nil
	err := p.controller.Sync(context.Background(), nil, namespace+"/"+name)
	if p.scheduler.result == nil || p.scheduler.status.Code() == framework.Error {
		panic(err)
	}
	return p.read()
}

// What the controller has said and written.
func (p *placements) read() placementAnswer {
	out := placementAnswer{Filtered: [][]string{}, Scores: map[string]int64{}, Decisions: []sliceOf{}}
	for _, one := range p.scheduler.result.FilterResults() {
		sort.Strings(one.FilteredClusters)
		out.Filtered = append(out.Filtered, one.FilteredClusters)
	}
	for cluster, score := range p.scheduler.result.PrioritizerScores() {
		out.Scores[cluster] = score
	}
	out.Warned = p.scheduler.status.Code() == framework.Warning
	for _, action := range p.client.Actions() {
		switch action := action.(type) {
		case clienttesting.CreateActionImpl:
			made := action.GetObject().(*clusterv1beta1.PlacementDecision)
			one := sliceOf{Name: made.Name, GroupName: made.Labels[clusterv1beta1.DecisionGroupNameLabel], GroupIndex: made.Labels[clusterv1beta1.DecisionGroupIndexLabel], Clusters: []string{}}
			for _, decision := range made.Status.Decisions {
				one.Clusters = append(one.Clusters, decision.ClusterName)
			}
			out.Decisions = append(out.Decisions, one)
		case clienttesting.PatchActionImpl:
			var written clusterv1beta1.Placement
			if err := json.Unmarshal(action.Patch, &written); err != nil {
				panic(err)
			}
			out.Selected = written.Status.NumberOfSelectedClusters
			for _, one := range written.Status.Conditions {
				said := condition{one.Status, one.Reason, one.Message}
				switch one.Type {
				case clusterv1beta1.PlacementConditionSatisfied:
					out.Satisfied = said
				case clusterv1beta1.PlacementConditionMisconfigured:
					out.Misconfigured = said
				}
			}
		}
	}
	return out
}
