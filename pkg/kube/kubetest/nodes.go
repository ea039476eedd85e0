package kubetest

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// KWOK plays the nodes with this annotation.
	nodeAnnotation, nodeFake = "kwok.x-k8s.io/node", "fake"
	// nodeIP is where KWOK serves exec for all nodes.
	nodeIP = "127.0.0.1"
)

// ensureNodes makes the nodes that do not exist yet. Those of an earlier run lose what their kubelets said, until KWOK gives a sign of life: they are
// like new then. If they became unready instead, the node lifecycle controller would taint them and take seconds to notice that they are back.
func ensureNodes(ctx context.Context, client kubernetes.Interface, count int, execPort string) error {
	nodes := client.CoreV1().Nodes()
	for i := range count {
		node := newNode("node-" + strconv.Itoa(i))
		if _, err := nodes.Create(ctx, node, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create node %s: %w", node.Name, err)
		}
	}
	list, err := nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	port, err := strconv.Atoi(cmp.Or(execPort, "0"))
	if err != nil {
		return fmt.Errorf("read port: %w", err)
	}
	patch := fmt.Appendf(nil, `{"status":{"conditions":null,"daemonEndpoints":{"kubeletEndpoint":{"Port":%d}}}}`, port)
	for _, node := range list.Items {
		if _, err := nodes.Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			return fmt.Errorf("patch status of node %s: %w", node.Name, err)
		}
	}
	return nil
}

// newNode is a node as its kubelet would register it, not ready yet. It has room for any test.
func newNode(name string) *corev1.Node {
	room := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("32"),
		corev1.ResourceMemory:           resource.MustParse("256Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
		corev1.ResourcePods:             resource.MustParse("2000"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{nodeAnnotation: nodeFake},
			Labels:      map[string]string{corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH},
		},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeIP}, {Type: corev1.NodeHostName, Address: name}},
			NodeInfo: corev1.NodeSystemInfo{
				Architecture: runtime.GOARCH, OperatingSystem: "linux", OSImage: "KWOK", KubeletVersion: "kwok-" + kwokVersion,
				ContainerRuntimeVersion: "kwok://" + kwokVersion,
			},
		},
	}
}
