module berth/test

go 1.26.0

// The local modules; tidy and GOWORK=off builds need them (go.work alone does not serve those).
replace (
	berth/cmd/devstack => ../cmd/devstack
	berth/pkg/events => ../pkg/events
	berth/pkg/kube => ../pkg/kube
	berth/pkg/service => ../pkg/service
	berth/services/api => ../services/api
	berth/services/creator => ../services/creator
	berth/services/deleter => ../services/deleter
	berth/services/licenser => ../services/licenser
	berth/services/watcher => ../services/watcher
)

require (
	berth/cmd/devstack v0.0.0
	berth/pkg/events v0.0.0
	berth/pkg/kube v0.0.0
	berth/pkg/service v0.0.0
	berth/services/api v0.0.0
	berth/services/creator v0.0.0
	berth/services/deleter v0.0.0
	berth/services/licenser v0.0.0
	berth/services/watcher v0.0.0
)

require github.com/google/go-cmp v0.7.0

require (
	github.com/mattn/go-colorable v0.1.14 // indirect
	github.com/mattn/go-isatty v0.0.20 // indirect
	github.com/rs/zerolog v1.35.1 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	go.yaml.in/yaml/v2 v2.4.4 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	k8s.io/api v0.37.2 // indirect
	k8s.io/apimachinery v0.37.2 // indirect
	k8s.io/client-go v0.37.2 // indirect
	sigs.k8s.io/yaml v1.6.0 // indirect
)
