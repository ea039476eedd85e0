module berth/services/deleter

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
	github.com/go-logr/logr v1.4.4 // indirect
	k8s.io/client-go v0.37.2 // indirect
	k8s.io/klog/v2 v2.140.0 // indirect
)
