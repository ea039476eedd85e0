module berth/services/api

go 1.26.0

// The local modules; tidy and GOWORK=off builds need them (go.work alone does not serve those).
replace (
	berth/pkg/events => ../../pkg/events
	berth/pkg/service => ../../pkg/service
)

require (
	berth/pkg/events v0.0.0
	berth/pkg/service v0.0.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	go.opentelemetry.io/otel v1.47.0 // indirect
	go.opentelemetry.io/otel/trace v1.47.0 // indirect
)
