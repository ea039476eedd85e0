package service

import (
	"context"
	"fmt"
	"os"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracing returns what makes the spans of a service, and a function that exports the last ones and
// frees everything. It sets no global.
//
// Spans are exported over OTLP/HTTP when OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, or OTEL_TRACES_EXPORTER is otlp; not when that is none or
// OTEL_SDK_DISABLED is true. The other OTEL_* variables mean what OpenTelemetry says
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). Without an exporter spans
// have ids, so that context is carried on, and are not recorded.
//
// It returns an error for settings that it cannot follow. It contacts nobody.
func Tracing(ctx context.Context, id Identity) (trace.TracerProvider, func(context.Context) error, error) {
	wanted, err := exportWanted(os.Getenv)
	if err != nil {
		return nil, nil, err
	}
	if !wanted {
		provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
		return provider, provider.Shutdown, nil
	}
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			attribute.String("service.name", "berth-"+id.Service),
			attribute.String("service.instance.id", id.Instance),
			attribute.String("service.version", id.Version),
		),
		resource.WithFromEnv(), // The last one wins.
	)
	if err != nil {
		return nil, nil, fmt.Errorf("describe service for traces: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("make trace exporter: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return provider, provider.Shutdown, nil
}

// exportWanted tells from the environment whether spans are exported.
func exportWanted(getenv func(string) string) (bool, error) {
	exporter := strings.ToLower(getenv("OTEL_TRACES_EXPORTER"))
	endpoint := getenv("OTEL_EXPORTER_OTLP_ENDPOINT") + getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	switch {
	case strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || exporter == "none":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER is %q: use otlp or none", exporter)
	case exporter == "" && endpoint == "":
		return false, nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if protocol := getenv(name); protocol != "" && !strings.HasPrefix(protocol, "http/") {
			return false, fmt.Errorf("%s is %q: use http/protobuf", name, protocol)
		}
	}
	return true, nil
}

const (
	traceParent = "traceparent"
	traceState  = "tracestate"
)

// InjectTrace hands the trace context of ctx to set, in the two members of W3C Trace Context
// (https://www.w3.org/TR/trace-context-1/): set is the Set of an http.Header or a nats.Header. Without a
// trace set is not called.
func InjectTrace(ctx context.Context, set func(key, value string)) {
	propagation.TraceContext{}.Inject(ctx, carrier{set: set})
}

// ExtractTrace returns ctx with the trace context that get finds: the Get of an http.Header or a
// nats.Header. What is not valid is ignored, as that specification demands.
func ExtractTrace(ctx context.Context, get func(key string) string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, carrier{get: get})
}

// Traceparent returns the traceparent of ctx, or "" without a trace.
func Traceparent(ctx context.Context) string {
	members := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, members)
	return members.Get(traceParent)
}

// WithTraceparent returns ctx as a part of the trace that the text names. A text that is not valid
// is ignored.
func WithTraceparent(ctx context.Context, text string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceParent: text})
}

// carrier lets functions carry a trace context.
type carrier struct {
	get func(key string) string
	set func(key, value string)
}

var _ propagation.TextMapCarrier = carrier{}

func (c carrier) Get(key string) string { return c.get(key) }
func (c carrier) Set(key, value string) { c.set(key, value) }
func (carrier) Keys() []string          { return []string{traceParent, traceState} }
