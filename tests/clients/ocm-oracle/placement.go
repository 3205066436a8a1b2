package main

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
)

const (
	namespace = "site"
	name      = "web"
)

// A Placement `web` of the namespace `site`, and the world that it is decided in.
type placement struct {
	Now       metav1.Time                            `json:"now"`
	Placement *clusterv1beta1.Placement              `json:"placement"`
	Clusters  []*clusterv1.ManagedCluster            `json:"clusters"`
	Sets      []*clusterv1beta2.ManagedClusterSet    `json:"sets"`
	Bound     []string                               `json:"bound"`
	Decisions []decision                             `json:"decisions"`
	Scores    []*clusterv1alpha1.AddOnPlacementScore `json:"scores"`
	Answer    placementAnswer                        `json:"answer"`
}

// What was decided before, of this Placement or of others.
type decision struct {
	Namespace string   `json:"namespace"`
	Placement string   `json:"placement"`
	Clusters  []string `json:"clusters"`
}

func (d *dice) placement() *placement {
	out := &placement{
		Now: metav1.NewTime(now), Bound: []string{}, Decisions: []decision{},
		Clusters: []*clusterv1.ManagedCluster{}, Scores: []*clusterv1alpha1.AddOnPlacementScore{},
	}
	many := d.Intn(10)
	if d.chance(0.01) {
		many = 90 + d.Intn(240)
	}
	tainted := pick(d, 0, 0, 0.2, 0.6)
	for i := range many {
		out.Clusters = append(out.Clusters, d.cluster(fmt.Sprintf("c%03d", i), tainted))
	}
	out.Sets = d.sets()
	for _, set := range []string{"north", "south", "all", "nowhere"} {
		if d.chance(0.75) {
			out.Bound = append(out.Bound, set)
		}
	}
	for _, one := range []decision{{namespace, name, nil}, {namespace, name, nil}, {namespace, "db", nil}, {"other", name, nil}, {"other", "db", nil}} {
		for _, cluster := range out.Clusters {
			if d.chance(0.3) {
				one.Clusters = append(one.Clusters, cluster.Name)
			}
		}
		if one.Clusters != nil {
			out.Decisions = append(out.Decisions, one)
		}
	}
	for _, cluster := range out.Clusters {
		out.Scores = append(out.Scores, d.scores(cluster.Name)...)
	}
	out.Placement = &clusterv1beta1.Placement{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "u"},
		Spec:       d.spec(many),
	}
	for _, cluster := range out.Clusters {
		for _, taint := range cluster.Spec.Taints {
			if d.chance(0.1) {
				out.Placement.Spec.Tolerations = append(out.Placement.Spec.Tolerations, clusterv1beta1.Toleration{
					Key: taint.Key, Operator: clusterv1beta1.TolerationOpExists, TolerationSeconds: perhaps[int64](d, 0.8, 0, 30, 60, 300, 3600),
				})
			}
		}
	}
	return out
}

func (d *dice) sets() []*clusterv1beta2.ManagedClusterSet {
	set := func(name string, selector clusterv1beta2.ManagedClusterSelector) *clusterv1beta2.ManagedClusterSet {
		return &clusterv1beta2.ManagedClusterSet{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       clusterv1beta2.ManagedClusterSetSpec{ClusterSelector: selector},
		}
	}
	exclusive := clusterv1beta2.ManagedClusterSelector{SelectorType: clusterv1beta2.ExclusiveClusterSetLabel}
	of := func(selector metav1.LabelSelector) clusterv1beta2.ManagedClusterSelector {
		return clusterv1beta2.ManagedClusterSelector{SelectorType: clusterv1beta2.LabelSelector, LabelSelector: &selector}
	}
	return []*clusterv1beta2.ManagedClusterSet{set("north", exclusive), set("south", exclusive), set("all", of(pick(d, metav1.LabelSelector{}, metav1.LabelSelector{MatchLabels: map[string]string{"site": "attic"}})))}
}

// Values that labels and claims have, and that somebody may ask for.
var (
	labels = map[string][]string{"site": {"attic", "cellar", "roof"}, "tier": {"edge", ""}, "speed": {"9", "10", "fast"}}
	claims = map[string][]string{"region": {"north", "south"}, "id.k8s.io": {"1", "2", "3"}, "facts": {`{"disks": 2}`, `{"disks": 0}`, `{`}}
)

func (d *dice) cluster(name string, tainted float64) *clusterv1.ManagedCluster {
	out := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	if d.chance(0.8) {
		out.Labels[clusterv1beta2.ClusterSetLabel] = pick(d, "north", "north", "south", "west")
	}
	for _, key := range []string{"site", "tier", "speed"} {
		if d.chance(0.7) {
			out.Labels[key] = pick(d, labels[key]...)
		}
	}
	for _, key := range []string{"region", "id.k8s.io", "facts"} {
		if d.chance(0.7) {
			out.Status.ClusterClaims = append(out.Status.ClusterClaims, clusterv1.ManagedClusterClaim{Name: key, Value: pick(d, claims[key]...)})
		}
	}
	for d.chance(tainted) {
		out.Spec.Taints = append(out.Spec.Taints, d.taint())
	}
	out.Spec.HubAcceptsClient = d.chance(0.9)
	if d.chance(0.03) {
		deleted := metav1.NewTime(now)
		out.DeletionTimestamp = &deleted
	}
	if d.chance(0.8) {
		out.Status.Version.Kubernetes = pick(d, "v1.30.1", "v1.31.0", "v1.9.9", "1.31.0", "odd")
	}
	if d.chance(0.7) {
		status := pick(d, metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown)
		out.Status.Conditions = []metav1.Condition{{Type: clusterv1.ManagedClusterConditionAvailable, Status: status, Reason: "Said", LastTransitionTime: metav1.NewTime(now)}}
	}
	out.Status.Capacity, out.Status.Allocatable = d.resources(), d.resources()
	return out
}

func (d *dice) resources() clusterv1.ResourceList {
	out := clusterv1.ResourceList{}
	if d.chance(0.85) {
		out[clusterv1.ResourceCPU] = resource.MustParse(pick(d, "0", "1", "4", "100m", "300m", "500m", "700m", "1100m", "1300m", "2500m", "64", fmt.Sprintf("%dm", d.Intn(9000))))
	}
	if d.chance(0.85) {
		out[clusterv1.ResourceMemory] = resource.MustParse(pick(d, "0", "512Mi", "1Gi", "1500M", "3Gi", "7919Mi", "1Ti", fmt.Sprintf("%dKi", d.Intn(1<<24))))
	}
	return out
}

var effects = []clusterv1.TaintEffect{clusterv1.TaintEffectNoSelect, clusterv1.TaintEffectNoSelect, clusterv1.TaintEffectNoSelectIfNew, clusterv1.TaintEffectPreferNoSelect}

func (d *dice) taint() clusterv1.Taint {
	out := clusterv1.Taint{
		Key:       pick(d, "gpu", "night", clusterv1.ManagedClusterTaintUnreachable, clusterv1.ManagedClusterTaintUnavailable),
		Value:     pick(d, "", "", "yes"),
		Effect:    pick(d, effects...),
		TimeAdded: metav1.NewTime(pick(d, now, now.Add(-time.Minute), now.Add(-5*time.Minute), d.around(600))),
	}
	if out.Key != "gpu" && out.Key != "night" && d.chance(0.6) {
		// As the hub taints clusters that are silent.
		out.Effect = clusterv1.TaintEffectNoSelectIfNew
	}
	if d.chance(0.02) {
		out.TimeAdded = metav1.Time{}
	}
	return out
}

// What add-ons say of a cluster. Of `usage` expressions ask; prioritizers ask of both.
func (d *dice) scores(cluster string) []*clusterv1alpha1.AddOnPlacementScore {
	var out []*clusterv1alpha1.AddOnPlacementScore
	for _, resource := range []string{"usage", "price"} {
		if d.chance(0.3) {
			continue
		}
		one := &clusterv1alpha1.AddOnPlacementScore{ObjectMeta: metav1.ObjectMeta{Namespace: cluster, Name: resource}}
		for d.chance(0.7) {
			one.Status.Scores = append(one.Status.Scores, clusterv1alpha1.AddOnPlacementScoreItem{Name: pick(d, "cpu", "memory"), Value: int32(d.Intn(201) - 100)})
		}
		if d.chance(0.5) {
			until := metav1.NewTime(pick(d, now, now.Add(time.Second), now.Add(-time.Second), d.around(3600)))
			one.Status.ValidUntil = &until
		}
		out = append(out, one)
	}
	return out
}

func (d *dice) spec(many int) clusterv1beta1.PlacementSpec {
	out := clusterv1beta1.PlacementSpec{SortBy: "ClusterName", PrioritizerPolicy: d.policy()}
	out.DecisionStrategy.GroupStrategy = d.groups()
	if d.chance(0.2) {
		out.ClusterSets = pick(d, []string{"north"}, []string{"all", "south"}, []string{"nowhere"}, []string{"west"})
	}
	if d.chance(0.6) {
		number := int32(d.Intn(many + 2))
		out.NumberOfClusters = &number
	}
	for d.chance(0.45) {
		out.Predicates = append(out.Predicates, clusterv1beta1.ClusterPredicate{RequiredClusterSelector: d.clusterSelector()})
	}
	for d.chance(0.5) {
		out.Tolerations = append(out.Tolerations, d.toleration())
	}
	if d.chance(0.05) {
		out.SpreadPolicy.SpreadConstraints = []clusterv1beta1.SpreadConstraintsTerm{{
			TopologyKey: "site", TopologyKeyType: clusterv1beta1.TopologyKeyTypeLabel, MaxSkew: 1,
			WhenUnsatisfiable: pick(d, clusterv1beta1.DoNotSchedule, clusterv1beta1.ScheduleAnyway),
		}}
	}
	return out
}

func (d *dice) clusterSelector() clusterv1beta1.ClusterSelector {
	out := clusterv1beta1.ClusterSelector{LabelSelector: d.labelSelector(0.35)}
	for d.chance(0.3) {
		out.ClaimSelector.MatchExpressions = append(out.ClaimSelector.MatchExpressions, d.requirement(claims, "region", "id.k8s.io"))
	}
	for d.chance(0.4) {
		out.CelSelector.CelExpressions = append(out.CelSelector.CelExpressions, d.expression())
	}
	return out
}

func (d *dice) labelSelector(share float64) metav1.LabelSelector {
	out := metav1.LabelSelector{}
	for d.chance(share) {
		if d.chance(0.5) {
			key := pick(d, "site", "tier", "speed")
			out.MatchLabels = map[string]string{key: pick(d, labels[key]...)}
		} else {
			out.MatchExpressions = append(out.MatchExpressions, d.requirement(labels, "site", "tier", "speed"))
		}
	}
	if d.chance(0.01) {
		out.MatchLabels = map[string]string{pick(d, "site", "-odd-"): pick(d, "attic", "not a value")}
	}
	return out
}

func (d *dice) requirement(of map[string][]string, keys ...string) metav1.LabelSelectorRequirement {
	key := pick(d, keys...)
	out := metav1.LabelSelectorRequirement{
		Key:      key,
		Operator: pick(d, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist),
	}
	if out.Operator == metav1.LabelSelectorOpIn || out.Operator == metav1.LabelSelectorOpNotIn {
		for out.Values == nil || d.chance(0.3) {
			out.Values = append(out.Values, pick(d, of[key]...))
		}
	}
	if d.chance(0.005) {
		out.Operator = "Near"
	}
	if d.chance(0.005) {
		out.Values = pick(d, nil, []string{"attic"}, []string{"not a value"})
	}
	return out
}

func (d *dice) expression() string {
	const cluster = "managedCluster"
	switch d.Intn(20) {
	case 0:
		return fmt.Sprintf(`%s.metadata.labels["site"] == %q`, cluster, pick(d, labels["site"]...))
	case 1:
		return fmt.Sprintf(`%s.metadata.?labels[?"speed"].orValue("0") in ["9", "0"]`, cluster)
	case 2:
		return fmt.Sprintf(`has(%s.metadata.labels.tier) && !(%s.metadata.labels.tier == "")`, cluster, cluster)
	case 3:
		return fmt.Sprintf(`%s.status.clusterClaims.exists(c, c.name == "region" && c.value == %q)`, cluster, pick(d, claims["region"]...))
	case 4:
		return fmt.Sprintf(`semver(%s.status.version.kubernetes%s).isGreaterThan(semver("1.30.%d"))`, cluster, pick(d, "", "", ".substring(1)", ", true"), d.Intn(3))
	case 5:
		return fmt.Sprintf(`%s.status.version.kubernetes.matches("^v1[.]3[01]")`, cluster)
	case 6:
		return fmt.Sprintf(`quantity(%s.status.allocatable.cpu).isGreaterThan(quantity("%dm"))`, cluster, d.Intn(4000))
	case 7:
		return fmt.Sprintf(`sign(quantity(%s.status.capacity.memory).sub(quantity("1Gi"))) == %d`, cluster, d.Intn(3)-1)
	case 8:
		return fmt.Sprintf(`%s.scores("usage").exists(s, s.name == "cpu" && s.value < %d)`, cluster, d.Intn(201)-100)
	case 9:
		return fmt.Sprintf(`%s.scores("usage").filter(s, s.name == "memory").map(s, s.value).sum() > %d`, cluster, d.Intn(201)-100)
	case 10:
		return fmt.Sprintf(`%s.scores("price").size() %s 1`, cluster, pick(d, "<", ">", "=="))
	case 11:
		return fmt.Sprintf(`%s.status.conditions.all(c, c.type != "ManagedClusterConditionAvailable" || c.status == "True")`, cluster)
	case 12:
		return fmt.Sprintf(`%s.status.clusterClaims.filter(c, c.name == "facts")[0].value.parseJSON().disks > 0`, cluster)
	case 13:
		return fmt.Sprintf(`%s.spec.hubAcceptsClient`, cluster)
	case 14:
		return fmt.Sprintf(`!has(%s.spec.taints) || %s.spec.taints.exists_one(t, t.effect == "NoSelect")`, cluster, cluster)
	case 15:
		return fmt.Sprintf(`int(%s.metadata.labels["speed"]) < 10`, cluster)
	case 16:
		return fmt.Sprintf(`%s.metadata.name.substring(3) in ["0", "1", "2"] || %s.metadata.name.endsWith("%d")`, cluster, cluster, d.Intn(9))
	case 17:
		return fmt.Sprintf(`%s.metadata.labels["tier"]`, cluster)
	case 18:
		return fmt.Sprintf(`size(%s.metadata.labels) %% 2 == %d && %s.status.clusterClaims.map(c, c.name).join(",").contains("region")`, cluster, d.Intn(2), cluster)
	default:
		return pick(d, `true`, `1 / 0 == 1`, `cluster.x == 1`, `managedCluster[`, `1 + "a" == 2`, `managedCluster.x()`, `quantity("1").sign() == 1`, `managedCluster.kind == "ManagedCluster"`, `managedCluster.nothing == null`)
	}
}

func (d *dice) toleration() clusterv1beta1.Toleration {
	out := clusterv1beta1.Toleration{
		Key:      pick(d, "gpu", "night", clusterv1.ManagedClusterTaintUnreachable, clusterv1.ManagedClusterTaintUnavailable),
		Operator: pick(d, clusterv1beta1.TolerationOpExists, clusterv1beta1.TolerationOpEqual, ""),
		Effect:   pick(d, append(effects, "", "", "")...),
	}
	if out.Operator != clusterv1beta1.TolerationOpExists {
		out.Value = pick(d, "", "yes", "no")
	} else if d.chance(0.2) {
		out.Key = ""
	}
	if d.chance(0.01) {
		out.Key, out.Value = pick(d, "", "gpu"), "yes"
	}
	out.TolerationSeconds = perhaps[int64](d, 0.4, 0, 60, 61, 300, -5, int64(d.Intn(600)))
	return out
}

func (d *dice) policy() clusterv1beta1.PrioritizerPolicy {
	out := clusterv1beta1.PrioritizerPolicy{Mode: pick(d, clusterv1beta1.PrioritizerPolicyModeAdditive, clusterv1beta1.PrioritizerPolicyModeAdditive, clusterv1beta1.PrioritizerPolicyModeExact, "")}
	for d.chance(0.5) {
		one := clusterv1beta1.ScoreCoordinate{Type: clusterv1beta1.ScoreCoordinateTypeBuiltIn}
		if d.chance(0.4) {
			one.Type = clusterv1beta1.ScoreCoordinateTypeAddOn
			one.AddOn = &clusterv1beta1.AddOnScore{ResourceName: pick(d, "usage", "price", "none"), ScoreName: pick(d, "cpu", "memory")}
		} else {
			one.BuiltIn = pick(d, "Balance", "Steady", "ResourceAllocatableCPU", "ResourceAllocatableMemory")
		}
		out.Configurations = append(out.Configurations, clusterv1beta1.PrioritizerConfig{ScoreCoordinate: &one, Weight: int32(d.Intn(21) - 10)})
	}
	// One mistake, since upstream finds any of several.
	if mistake := d.Intn(200); 0 < len(out.Configurations) {
		last := &out.Configurations[len(out.Configurations)-1]
		switch mistake {
		case 0:
			last.ScoreCoordinate = nil
		case 1:
			last.ScoreCoordinate = &clusterv1beta1.ScoreCoordinate{Type: clusterv1beta1.ScoreCoordinateTypeBuiltIn, BuiltIn: "Nearest"}
		case 2:
			last.ScoreCoordinate = &clusterv1beta1.ScoreCoordinate{Type: clusterv1beta1.ScoreCoordinateTypeAddOn}
		case 3:
			out.Mode = "Odd"
		}
	}
	return out
}

func (d *dice) groups() clusterv1beta1.GroupStrategy {
	out := clusterv1beta1.GroupStrategy{ClustersPerDecisionGroup: intstr.FromString("100%")}
	switch {
	case d.chance(0.3):
		out.ClustersPerDecisionGroup = intstr.FromInt(d.Intn(8))
	case d.chance(0.5):
		out.ClustersPerDecisionGroup = intstr.FromString(fmt.Sprintf("%d%%", 1+d.Intn(100)))
	case d.chance(0.02):
		out.ClustersPerDecisionGroup = intstr.FromString("3")
	}
	for d.chance(0.3) {
		selector := d.clusterSelector()
		out.DecisionGroups = append(out.DecisionGroups, clusterv1beta1.DecisionGroup{
			GroupName:       pick(d, "canary", "canary", "second"),
			ClusterSelector: clusterv1beta1.GroupClusterSelector{LabelSelector: selector.LabelSelector, ClaimSelector: selector.ClaimSelector},
		})
	}
	return out
}
