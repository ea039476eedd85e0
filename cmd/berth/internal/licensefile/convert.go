package licensefile

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth is how deep the values of a license may be.
const maxDepth = 64

// places are the lines of fields by their paths, like quota.gpu.num.
type places map[string]int

// line finds a field, or the nearest that it is in.
func (p places) line(path string, otherwise int) int {
	for path != "" {
		if line, ok := p[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return otherwise
}

// converter makes JSON of YAML: members in their order, numbers digit by digit.
type converter struct {
	reader *reader
	places places
	failed bool
}

func (c *converter) fault(line int, message string) json.RawMessage {
	c.failed = true
	c.reader.fault(line, message)
	return json.RawMessage("null")
}

func (c *converter) value(v *yaml.Node, path string, depth int) json.RawMessage {
	if _, known := c.places[path]; !known {
		c.places[path] = v.Line
	}
	switch {
	case depth > maxDepth:
		return c.fault(v.Line, path+" is too deep")
	case v.Kind == yaml.AliasNode, v.Anchor != "":
		return c.fault(v.Line, path+" has an anchor or alias: write it out")
	case v.Kind == yaml.MappingNode:
		return c.mapping(v, path, depth)
	case v.Kind == yaml.SequenceNode:
		items := make([]json.RawMessage, len(v.Content))
		for i, item := range v.Content {
			items[i] = c.value(item, path+"["+strconv.Itoa(i)+"]", depth+1)
		}
		return c.marshal(v, path, items)
	default:
		return c.scalar(v, path)
	}
}

func (c *converter) mapping(v *yaml.Node, path string, depth int) json.RawMessage {
	out := bytes.NewBufferString("{")
	seen := map[string]bool{}
	for i := 0; i+1 < len(v.Content); i += 2 {
		key, value := v.Content[i], v.Content[i+1]
		at := path + "." + key.Value
		c.places[at] = key.Line
		switch {
		case key.Kind != yaml.ScalarNode, key.ShortTag() == "!!merge":
			return c.fault(key.Line, path+" has a key that is no text")
		case seen[key.Value]:
			return c.fault(key.Line, at+" is there twice: leave one out")
		}
		seen[key.Value] = true
		text := c.value(value, at, depth+1)
		if at == patchPath && value.Kind == yaml.SequenceNode {
			text = c.marshal(value, at, string(text)) // It is stored as a text.
		}
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		out.Write(c.marshal(key, at, key.Value))
		out.WriteByte(':')
		out.Write(text)
	}
	out.WriteByte('}')
	return out.Bytes()
}

// patchPath is where a license has its patch.
const patchPath = "quota.patch"

func (c *converter) scalar(v *yaml.Node, path string) json.RawMessage {
	switch v.ShortTag() {
	case "!!null":
		return json.RawMessage("null")
	case "!!bool":
		var value bool
		if v.Decode(&value) != nil {
			return c.fault(v.Line, path+" is neither true nor false")
		}
		return c.marshal(v, path, value)
	case "!!int":
		if json.Valid([]byte(v.Value)) {
			return json.RawMessage(v.Value)
		}
		n, ok := new(big.Int).SetString(v.Value, 0) // 0x1f, 0o17, 1_000, +1.
		if !ok {
			return c.fault(v.Line, path+" is no number")
		}
		return json.RawMessage(n.String())
	case "!!float":
		var value float64
		if json.Valid([]byte(v.Value)) {
			return json.RawMessage(v.Value)
		}
		if v.Decode(&value) != nil {
			return c.fault(v.Line, path+" is no number")
		}
		return c.marshal(v, path, value)
	case "!!str", "!!timestamp":
		return c.marshal(v, path, v.Value)
	default:
		return c.fault(v.Line, path+" is of a kind that JSON does not have")
	}
}

// marshal writes a value as JSON; NaN and the infinities have no form there.
func (c *converter) marshal(v *yaml.Node, path string, value any) json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return c.fault(v.Line, path+" is nothing that JSON has")
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}

func isNull(v *yaml.Node) bool { return v.Kind == yaml.ScalarNode && v.ShortTag() == "!!null" }
