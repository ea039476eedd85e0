package natsbus

import "context"

type traceKey struct{}

// WithTraceparent returns a context whose events and commands carry a W3C
// traceparent.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, traceparent)
}

// Traceparent returns the context's W3C traceparent, empty for none.
func Traceparent(ctx context.Context) string {
	s, _ := ctx.Value(traceKey{}).(string)
	return s
}
