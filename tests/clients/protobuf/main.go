// Creates and reads a ConfigMap and a Deployment with client-go in protobuf, and fails loudly if
// what comes back is not what was sent or was not protobuf.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const protobuf = "application/vnd.kubernetes.protobuf"

// spy checks that every answer is protobuf.
type spy struct{ next http.RoundTripper }

func (s spy) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := s.next.RoundTrip(request)
	if err == nil && !strings.HasPrefix(response.Header.Get("Content-Type"), protobuf) {
		return nil, fmt.Errorf("%s %s answered %q", request.Method, request.URL.Path, response.Header.Get("Content-Type"))
	}
	return response, err
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func same(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		check(fmt.Errorf("%s: got %v, want %v", what, got, want))
	}
}

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	check(err)
	config.ContentType = protobuf
	config.AcceptContentTypes = protobuf
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return spy{next} })
	client, err := kubernetes.NewForConfig(config)
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	configMap(ctx, client)
	deployment(ctx, client)
	fmt.Println("protobuf works")
}

func configMap(ctx context.Context, client *kubernetes.Clientset) {
	maps := client.CoreV1().ConfigMaps("default")
	sent := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "by-protobuf", Labels: map[string]string{"a": "b"}},
		Data:       map[string]string{"text": "grüße", "empty": ""},
		BinaryData: map[string][]byte{"bytes": {0, 255, 1}},
	}
	created, err := maps.Create(ctx, sent, metav1.CreateOptions{})
	check(err)
	got, err := maps.Get(ctx, "by-protobuf", metav1.GetOptions{})
	check(err)
	same("uid", got.UID, created.UID)
	same("data", got.Data, sent.Data)
	same("binaryData", got.BinaryData, sent.BinaryData)
	same("labels", got.Labels, sent.Labels)
	list, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "a=b"})
	check(err)
	same("list", len(list.Items), 1)
	watch, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: got.ResourceVersion})
	check(err)
	got.Data["more"] = "yes"
	_, err = maps.Update(ctx, got, metav1.UpdateOptions{})
	check(err)
	event := <-watch.ResultChan()
	same("event", event.Type, "MODIFIED")
	same("watched", event.Object.(*corev1.ConfigMap).Data["more"], "yes")
	watch.Stop()
	check(maps.Delete(ctx, "by-protobuf", metav1.DeleteOptions{}))
	_, err = maps.Get(ctx, "by-protobuf", metav1.GetOptions{})
	same("gone", err, `configmaps "by-protobuf" not found`)
}

func deployment(ctx context.Context, client *kubernetes.Clientset) {
	replicas, surge := int32(0), intstr.FromString("40%")
	labels := map[string]string{"app": "by-protobuf"}
	sent := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "by-protobuf"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name:      "web",
					Image:     "hello-http:v1",
					Ports:     []corev1.ContainerPort{{ContainerPort: 8080}},
					Env:       []corev1.EnvVar{{Name: "A", Value: "1"}},
					Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("0.5")}},
				}}},
			},
		},
	}
	deployments := client.AppsV1().Deployments("default")
	_, err := deployments.Create(ctx, sent, metav1.CreateOptions{})
	check(err)
	got, err := deployments.Get(ctx, "by-protobuf", metav1.GetOptions{})
	check(err)
	same("replicas", *got.Spec.Replicas, 0)
	same("maxSurge", got.Spec.Strategy.RollingUpdate.MaxSurge.String(), "40%")
	same("maxUnavailable", got.Spec.Strategy.RollingUpdate.MaxUnavailable.String(), "25%")
	container := got.Spec.Template.Spec.Containers[0]
	same("cpu", container.Resources.Requests.Cpu().String(), "500m")
	same("pull policy", container.ImagePullPolicy, corev1.PullIfNotPresent)
	same("port", container.Ports[0].ContainerPort, 8080)
	check(deployments.Delete(ctx, "by-protobuf", metav1.DeleteOptions{}))
}
