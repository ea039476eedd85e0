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
