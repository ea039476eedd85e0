package service

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

const (
	traceID    = "4bf92f3577b34da6a3ce929d0e0e4736"
	sampled    = "00-" + traceID + "-00f067aa0ba902b7-01"
	notSampled = "00-" + traceID + "-00f067aa0ba902b7-00"
)

func TestTraceparent(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"sampled":        {sampled, sampled},
		"not sampled":    {notSampled, notSampled},
		"empty":          {"", ""},
		"too short":      {sampled[:54], ""},
		"too long":       {sampled + "0", ""},
		"upper case":     {strings.ToUpper(sampled), ""},
		"no trace":       {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
		"no span":        {"00-" + traceID + "-0000000000000000-01", ""},
		"forbidden":      {"ff" + sampled[2:], ""},
		"later version":  {"01" + sampled[2:] + "-more", sampled},
		"another format": {"b3=" + traceID, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Traceparent(WithTraceparent(t.Context(), tc.text)); got != tc.want {
				t.Errorf("traceparent = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestTraceInHeaders(t *testing.T) {
	t.Parallel()
	header := http.Header{}
	InjectTrace(t.Context(), header.Set)
	if len(header) > 0 {
		t.Errorf("headers without a trace: %v", header)
	}
	header.Set("traceparent", sampled)
	header.Set("tracestate", "vendor=1")
	ctx := ExtractTrace(t.Context(), header.Get)

	copied := map[string]string{}
	InjectTrace(ctx, func(key, value string) { copied[key] = value })
	if copied["traceparent"] != sampled || copied["tracestate"] != "vendor=1" || len(copied) != 2 {
		t.Errorf("headers = %v", copied)
	}
}

// clearTracing empties the variables of OpenTelemetry that a developer may have set.
func clearTracing(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_TRACES_SAMPLER", "OTEL_RESOURCE_ATTRIBUTES",
		"OTEL_SERVICE_NAME",
	} {
		t.Setenv(name, "")
	}
}

// Without an exporter a trace goes on, and a new one begins where there is none.
func TestTracingWithoutExporter(t *testing.T) { //nolint:paralleltest // It sets environment variables.
	clearTracing(t)
	provider, shutdown, err := Tracing(t.Context(), Identity{Service: "creator"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := provider.Tracer("test").Start(WithTraceparent(t.Context(), sampled), "child")
	child := trace.SpanContextFromContext(ctx)
	span.End()
	if child.TraceID().String() != traceID || strings.Contains(sampled, child.SpanID().String()) || !child.IsSampled() {
		t.Errorf("child of %s is %s", sampled, Traceparent(ctx))
	}
	ctx, span = provider.Tracer("test").Start(t.Context(), "root")
	span.End()
	if root := Traceparent(ctx); !strings.HasSuffix(root, "-00") || span.IsRecording() {
		t.Errorf("root is %q, want one that is not sampled", root)
	}
	if err := shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTracingExports(t *testing.T) {
	clearTracing(t)
	bodies := make(chan string, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("export to %s: %v", r.URL.Path, err)
		}
		bodies <- string(body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	provider, shutdown, err := Tracing(t.Context(), Identity{Service: "creator", Instance: "host-1-abc"})
	if err != nil {
		t.Fatal(err)
	}
	_, span := provider.Tracer("test").Start(t.Context(), "render pod")
	span.End()
	if err := shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	body := <-bodies
	for _, want := range []string{"render pod", "berth-creator", "host-1-abc"} {
		if !strings.Contains(body, want) {
			t.Errorf("export lacks %q", want)
		}
	}
}

func TestTracingRefuses(t *testing.T) {
	clearTracing(t)
	t.Setenv("OTEL_TRACES_EXPORTER", "zipkin")
	if _, _, err := Tracing(context.Background(), Identity{}); err == nil {
		t.Error("Tracing has accepted an exporter that it does not have")
	}
}

func TestExportWanted(t *testing.T) {
	t.Parallel()
	type env = map[string]string
	tests := map[string]struct {
		env     env
		want    bool
		wantErr string
	}{
		"nothing":         {want: false},
		"endpoint":        {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, want: true},
		"traces endpoint": {env: env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318"}, want: true},
		"exporter":        {env: env{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, want: true},
		"none":            {env: env{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, want: false},
		"disabled":        {env: env{"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, want: false},
		"other exporter":  {env: env{"OTEL_TRACES_EXPORTER": "zipkin"}, wantErr: `OTEL_TRACES_EXPORTER is "zipkin": use otlp or none`},
		"other protocol": {
			env:     env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
			wantErr: `OTEL_EXPORTER_OTLP_PROTOCOL is "grpc": use http/protobuf`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := exportWanted(func(name string) string { return tc.env[name] })
			if tc.wantErr != "" {
				wantError(t, err, tc.wantErr)
			} else if err != nil || got != tc.want {
				t.Errorf("export = %v, %v, want %v", got, err, tc.want)
			}
		})
	}
}
