// Speaks protobuf, and nothing else, to a hub through client-go: creates, reads, lists, watches,
// updates and deletes a ConfigMap and a Deployment. Ends with "ok" or with what went wrong.
//
//	KUBECONFIG=F go run ./protobuf-client
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"reflect"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const namespace = "default"

func main() {
	log.SetFlags(0)
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	check("kubeconfig", err)
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	check("client", err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	configMap(ctx, client)
	deployment(ctx, client)
	fmt.Println("ok")
}

func configMap(ctx context.Context, client kubernetes.Interface) {
	maps := client.CoreV1().ConfigMaps(namespace)
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "protobuf-client", Labels: map[string]string{"by": "protobuf-client"}},
		Data:       map[string]string{"text": "grüße", "empty": ""},
		BinaryData: map[string][]byte{"bytes": {0, 1, 255}},
	}
	events, err := maps.Watch(ctx, metav1.ListOptions{LabelSelector: "by=protobuf-client"})
	check("watch", err)
	defer events.Stop()
	made, err := maps.Create(ctx, wanted, metav1.CreateOptions{})
	check("create ConfigMap", err)
	read, err := maps.Get(ctx, wanted.Name, metav1.GetOptions{})
	check("get ConfigMap", err)
	same("ConfigMap read", made, read)
	same("its data", wanted.Data, read.Data)
	same("its bytes", wanted.BinaryData, read.BinaryData)
	list, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "by=protobuf-client"})
	check("list ConfigMaps", err)
	same("the list's length", 1, len(list.Items))
	same("the list's item", read.UID, list.Items[0].UID)
	event := <-events.ResultChan()
	same("the event's type", watch.Added, event.Type)
	same("the event's object", read, event.Object)
	_, err = maps.Create(ctx, wanted, metav1.CreateOptions{})
	same("a Status in protobuf", true, errors.IsAlreadyExists(err))
	check("delete ConfigMap", maps.Delete(ctx, wanted.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &read.UID}}))
	_, err = maps.Get(ctx, wanted.Name, metav1.GetOptions{})
	same("it is gone", true, errors.IsNotFound(err))
}

func deployment(ctx context.Context, client kubernetes.Interface) {
	deployments := client.AppsV1().Deployments(namespace)
	labels := map[string]string{"app": "protobuf-client"}
	replicas := int32(0)
	wanted := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "protobuf-client"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name:  "c",
					Image: "hello-http",
					Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{
						corev1.ResourceCPU: resource.MustParse("0.5"), corev1.ResourceMemory: resource.MustParse("1024Ki"),
					}},
				}}},
			},
		},
	}
	made, err := deployments.Create(ctx, wanted, metav1.CreateOptions{})
	check("create Deployment", err)
	read, err := deployments.Get(ctx, wanted.Name, metav1.GetOptions{})
	check("get Deployment", err)
	same("the Deployment's UID", made.UID, read.UID)
	limits := read.Spec.Template.Spec.Containers[0].Resources.Limits
	same("its CPU limit", "500m", limits.Cpu().String())
	same("its memory limit", "1Mi", limits.Memory().String())
	same("a default", "25%", read.Spec.Strategy.RollingUpdate.MaxSurge.String())
	read.Spec.Template.Spec.Containers[0].Image = "hello-http:2"
	updated, err := deployments.Update(ctx, read, metav1.UpdateOptions{})
	check("update Deployment", err)
	same("its generation", read.Generation+1, updated.Generation)
	scale, err := deployments.GetScale(ctx, wanted.Name, metav1.GetOptions{})
	check("get Scale", err)
	same("its scale", int32(0), scale.Spec.Replicas)
	check("delete Deployment", deployments.Delete(ctx, wanted.Name, metav1.DeleteOptions{}))
}

func check(what string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
}

func same(what string, wanted, found any) {
	if !reflect.DeepEqual(wanted, found) {
		log.Fatalf("%s: wanted %#v, found %#v", what, wanted, found)
	}
}
