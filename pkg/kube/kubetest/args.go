package kubetest

import (
	"path/filepath"
	"strings"
)

// controllers are those that pods, their storage and their owners need. Those for other workloads, and for endpoints, which nobody reads
// here, would only cost.
func controllers() []string {
	return []string{
		"clusterrole-aggregation-controller", "deployment-controller", "ephemeral-volume-controller", "garbage-collector-controller",
		"job-controller", "namespace-controller", "node-lifecycle-controller", "persistentvolume-binder-controller",
		"persistentvolume-protection-controller", "persistentvolumeclaim-protection-controller", "pod-garbage-collector-controller",
		"replicaset-controller", "resourcequota-controller", "root-ca-certificate-publisher-controller", "serviceaccount-controller",
		"taint-eviction-controller",
	}
}

// Names in the folder of a cluster.
const (
	pkiDir         = "pki"
	kubeconfigFile = "kubeconfig"
)

// Sockets of etcd, relative to the cluster's folder: a socket's path may have 107 bytes, a temporary folder's path has more. No port, and no
// certificate: the folder's permissions keep others out.
const (
	etcdSocket = "unix://etcd.sock"
	peerSocket = "unix://peer.sock"
	// etcd insists on an address to advertise; with one member nobody dials it.
	etcdAddress, peerAddress = "http://localhost:2379", "http://localhost:2380"
)

func etcdArgs(durable bool) []string {
	args := []string{
		"--name=berth", "--data-dir=etcd",
		"--listen-client-urls=" + etcdSocket, "--advertise-client-urls=" + etcdAddress,
		"--listen-peer-urls=" + peerSocket, "--initial-advertise-peer-urls=" + peerAddress, "--initial-cluster=berth=" + peerAddress,
		"--log-level=warn",
	}
	if !durable {
		args = append(args, "--unsafe-no-fsync")
	}
	return args
}

func apiServerArgs(f files, port string) []string {
	return []string{
		"--etcd-servers=" + etcdSocket,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + port,
		"--tls-cert-file=" + f.server.cert, "--tls-private-key-file=" + f.server.key,
		"--client-ca-file=" + f.ca,
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + f.accounts.cert, "--service-account-signing-key-file=" + f.accounts.key,
		"--service-cluster-ip-range=10.0.0.0/16",
		// Nobody reaches the API server through a service here.
		"--endpoint-reconciler-type=none",
		// Otherwise exec and logs look the node's name up in DNS.
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-certificate-authority=" + f.ca,
		"--kubelet-client-certificate=" + f.kubelet.cert, "--kubelet-client-key=" + f.kubelet.key,
		"--allow-privileged=true",
		// A few trusted clients: fairness between them only costs.
		"--enable-priority-and-fairness=false",
		"--profiling=false",
	}
}

func controllerManagerArgs(f files) []string {
	return append(clientArgs(f.controllerManager),
		"--controllers="+strings.Join(controllers(), ","),
		"--service-account-private-key-file="+f.accounts.key, "--root-ca-file="+f.ca)
}

func schedulerArgs(f files) []string { return clientArgs(f.scheduler) }

// clientArgs are for programs that only talk to the API server. The default limits of 20 and 50 requests a second would bound every measurement.
func clientArgs(kubeconfig string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--leader-elect=false", "--kube-api-qps=1000", "--kube-api-burst=2000", "--secure-port=0", "--profiling=false",
	}
}

func kwokArgs(f files, execPort string) []string {
	args := []string{
		"--kubeconfig=" + f.kwok, "--config=" + f.kwokConfig,
		"--manage-nodes-with-annotation-selector=" + nodeAnnotation + "=" + nodeFake,
		"--node-ip=" + nodeIP, "--v=WARN",
	}
	if execPort != "" {
		args = append(args, "--node-port="+execPort, "--server-address="+nodeIP+":"+execPort,
			"--tls-cert-file="+f.node.cert, "--tls-private-key-file="+f.node.key)
	}
	return args
}

// files are the paths of what is made for a start, relative to the cluster's folder, which is where the programs run.
type files struct {
	ca                                                    string
	server, kubelet, node, accounts                       pairFiles
	admin, controllerManager, scheduler, kwok, kwokConfig string
}

type pairFiles struct{ cert, key string }

func layout() files {
	pair := func(name string) pairFiles {
		return pairFiles{cert: filepath.Join(pkiDir, name+".crt"), key: filepath.Join(pkiDir, name+".key")}
	}
	return files{
		ca:     filepath.Join(pkiDir, "ca.crt"),
		server: pair("apiserver"), kubelet: pair("kubelet-client"), node: pair("node"), accounts: pair("accounts"),
		admin:             kubeconfigFile,
		controllerManager: filepath.Join(pkiDir, "kube-controller-manager.kubeconfig"),
		scheduler:         filepath.Join(pkiDir, "kube-scheduler.kubeconfig"),
		kwok:              filepath.Join(pkiDir, "kwok.kubeconfig"),
		kwokConfig:        "kwok.yaml",
	}
}
