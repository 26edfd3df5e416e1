package tracing

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// The types below are OTLP's ExportTraceServiceRequest in its JSON encoding (opentelemetry-proto, specification 1.x: ids in
// hex, 64-bit numbers as texts, names in lowerCamelCase).

type otlpRequest struct {
	ResourceSpans []otlpResource `json:"resourceSpans"`
}

type otlpResource struct {
	Resource   otlpAttributes `json:"resource"`
	ScopeSpans []otlpScope    `json:"scopeSpans"`
}

type otlpAttributes struct {
	Attributes []otlpPair `json:"attributes"`
}

type otlpScope struct {
	Scope struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	} `json:"scope"`
	Spans []otlpSpan `json:"spans"`
}

type otlpSpan struct {
	TraceID    string      `json:"traceId"`
	SpanID     string      `json:"spanId"`
	ParentID   string      `json:"parentSpanId,omitempty"`
	Name       string      `json:"name"`
	Kind       int         `json:"kind"`
	Start      string      `json:"startTimeUnixNano"`
	End        string      `json:"endTimeUnixNano"`
	Attributes []otlpPair  `json:"attributes,omitempty"`
	Events     []otlpEvent `json:"events,omitempty"`
	Links      []otlpLink  `json:"links,omitempty"`
	Status     otlpStatus  `json:"status"`
}

type otlpEvent struct {
	At         string     `json:"timeUnixNano"`
	Name       string     `json:"name"`
	Attributes []otlpPair `json:"attributes,omitempty"`
}

type otlpLink struct {
	TraceID string `json:"traceId"`
	SpanID  string `json:"spanId"`
}

type otlpStatus struct {
	Message string `json:"message,omitempty"`
	Code    int    `json:"code,omitempty"`
}

type otlpPair struct {
	Key   string         `json:"key"`
	Value map[string]any `json:"value"`
}

// encode is a batch as one request.
func encode(cfg Config, batch []sdk.ReadOnlySpan) []byte {
	text := func(key, value string) otlpPair { return otlpPair{key, map[string]any{"stringValue": value}} }
	resource := otlpResource{Resource: otlpAttributes{[]otlpPair{
		text("service.name", "tern"), text("service.namespace", cfg.Mesh), text("service.instance.id", cfg.Node),
		text("service.version", cfg.Version), text("cloud.region", cfg.Region),
	}}}
	var scope otlpScope
	scope.Scope.Name, scope.Scope.Version = "github.com/ternmesh/tern", cfg.Version
	for _, s := range batch {
		scope.Spans = append(scope.Spans, encodeSpan(s))
	}
	resource.ScopeSpans = []otlpScope{scope}
	b, err := json.Marshal(otlpRequest{[]otlpResource{resource}})
	if err != nil {
		panic(fmt.Sprintf("a span is made of texts, numbers and lists: %v", err))
	}
	return b
}

func encodeSpan(s sdk.ReadOnlySpan) otlpSpan {
	out := otlpSpan{
		TraceID: s.SpanContext().TraceID().String(), SpanID: s.SpanContext().SpanID().String(), Name: s.Name(),
		Kind: int(s.SpanKind()), Start: nanos(s.StartTime()), End: nanos(s.EndTime()), Attributes: pairs(s.Attributes()),
	}
	if s.Parent().IsValid() {
		out.ParentID = s.Parent().SpanID().String()
	}
	for _, e := range s.Events() {
		out.Events = append(out.Events, otlpEvent{nanos(e.Time), e.Name, pairs(e.Attributes)})
	}
	for _, l := range s.Links() {
		out.Links = append(out.Links, otlpLink{l.SpanContext.TraceID().String(), l.SpanContext.SpanID().String()})
	}
	switch s.Status().Code { // the numbers differ between the API and the wire
	case codes.Ok:
		out.Status.Code = 1
	case codes.Error:
		out.Status = otlpStatus{s.Status().Description, 2}
	}
	return out
}

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// pairs writes texts, truths and numbers; this program makes no others, and a list would become a text.
func pairs(list []attribute.KeyValue) (out []otlpPair) {
	for _, kv := range list {
		v := map[string]any{}
		switch kv.Value.Type() {
		case attribute.BOOL:
			v["boolValue"] = kv.Value.AsBool()
		case attribute.INT64:
			v["intValue"] = strconv.FormatInt(kv.Value.AsInt64(), 10)
		case attribute.FLOAT64:
			v["doubleValue"] = kv.Value.AsFloat64()
		default:
			v["stringValue"] = kv.Value.String()
		}
		out = append(out, otlpPair{string(kv.Key), v})
	}
	return out
}
