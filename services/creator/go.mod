module berth/services/creator

go 1.26.0

// The local modules; tidy and GOWORK=off builds need them (go.work alone does not serve those).
replace (
	berth/pkg/events => ../../pkg/events
	berth/pkg/kube => ../../pkg/kube
	berth/pkg/service => ../../pkg/service
)

require (
	berth/pkg/events v0.0.0
	berth/pkg/kube v0.0.0
	berth/pkg/service v0.0.0
)

require (
	github.com/distribution/reference v0.6.0 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	go.yaml.in/yaml/v2 v2.4.4 // indirect
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/sync v0.24.0 // indirect
	k8s.io/api v0.37.2 // indirect
	k8s.io/apimachinery v0.37.2 // indirect
	k8s.io/client-go v0.37.2 // indirect
	k8s.io/klog/v2 v2.140.0 // indirect
	pgregory.net/rapid v1.3.0 // indirect
	sigs.k8s.io/yaml v1.6.0 // indirect
)
