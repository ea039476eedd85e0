package kube

// Reasons, spelled as in the event contract. A State names one of them while a
// pod waits or when it has ended; a Rejection, when the API server refused it.
const (
	// ReasonUnschedulable: no node takes the pod.
	ReasonUnschedulable = "UNSCHEDULABLE"
	// ReasonStarting: the pod is on its way; nothing is wrong.
	ReasonStarting = "STARTING"
	// ReasonPulling: a node pulls an image.
	ReasonPulling = "PULLING"
	// ReasonImagePull: an image could not be pulled.
	ReasonImagePull = "IMAGE_PULL"
	// ReasonStoragePending: a volume is not attached or mounted yet.
	ReasonStoragePending = "STORAGE_PENDING"
	// ReasonContainerConfig: the node cannot make or start a container.
	ReasonContainerConfig = "CONTAINER_CONFIG"
	// ReasonNotReady: everything runs, but the pod is not ready.
	ReasonNotReady = "NOT_READY"
	// ReasonCrashed: a container ended though it should not have, or with an error.
	ReasonCrashed = "CRASHED"
	// ReasonOOMKilled: a container took more memory than it may.
	ReasonOOMKilled = "OOM_KILLED"
	// ReasonCompleted: containers ended by themselves, without an error.
	ReasonCompleted = "COMPLETED"
	// ReasonEvicted: the node or the cluster put the pod out.
	ReasonEvicted = "EVICTED"
	// ReasonNodeLost: the pod's node is gone or cannot be reached.
	ReasonNodeLost = "NODE_LOST"
	// ReasonPodRejected: the API server refuses the pod.
	ReasonPodRejected = "POD_REJECTED"
	// ReasonQuotaExceeded: a resource quota of the namespace refuses the pod.
	ReasonQuotaExceeded = "QUOTA_EXCEEDED"
)

// maxMessage bounds every message, in bytes: schedulers and registries can be
// wordy, and messages travel in every record of a pod.
const maxMessage = 1024
