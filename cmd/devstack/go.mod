module berth/cmd/devstack

go 1.26.0

// The local modules; tidy and GOWORK=off builds need them (go.work alone does not serve those).
replace (
	berth/pkg/events => ../../pkg/events
	berth/pkg/kube => ../../pkg/kube
	berth/pkg/service => ../../pkg/service
	berth/services/api => ../../services/api
	berth/services/creator => ../../services/creator
	berth/services/deleter => ../../services/deleter
	berth/services/licenser => ../../services/licenser
	berth/services/watcher => ../../services/watcher
)

require (
	berth/pkg/events v0.0.0
	berth/pkg/kube v0.0.0
	berth/pkg/service v0.0.0
	berth/services/api v0.0.0
	berth/services/creator v0.0.0
	berth/services/deleter v0.0.0
	berth/services/licenser v0.0.0
	berth/services/watcher v0.0.0
)

require (
	github.com/Masterminds/semver/v3 v3.5.0 // indirect
	github.com/antithesishq/antithesis-sdk-go v0.8.0-default-no-op // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/nats-io/jwt/v2 v2.8.2 // indirect
	github.com/nats-io/nats-server/v2 v2.15.2 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)
